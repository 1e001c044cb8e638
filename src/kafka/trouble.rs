//! What does an error of Kafka ask a person to do? Codes become errors with a kind and a way out.

use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use crate::{Error, error::Cause};

/// What `error` means for what was being done, as `read the cursor topic`.
pub fn kafka(error: &KafkaError, doing: &str) -> Error {
    let explained = match error.rdkafka_error_code() {
        Some(found) => code(found, doing),
        None => Error::wait(format!("cannot {doing}")),
    };
    explained.because(error.clone())
}

/// The value of a property may be a secret, and is quoted.
impl From<KafkaError> for Cause {
    fn from(error: KafkaError) -> Cause {
        match error {
            KafkaError::ClientConfig(_, _, name, _) => format!("the property {name} is not taken").into(),
            other => Cause::shown(other),
        }
    }
}

/// What a code means for what was being done.
pub fn code(code: Code, doing: &str) -> Error {
    match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Error::settings(format!("cannot {doing}: the broker refuses the credentials"))
            .help("Check the mechanism, the user name and the password of this destination."),
        Code::SSL => Error::settings(format!("cannot {doing}: no secure connection"))
            .help("Check the certificate authority, and that the broker's certificate is valid for its host name."),
        Code::TopicAuthorizationFailed => Error::settings(format!("cannot {doing}: not allowed on the topic")).help(
            "Grant the principal DESCRIBE, READ and WRITE on the cursor topic, and DESCRIBE and WRITE on the others.",
        ),
        Code::TransactionalIdAuthorizationFailed => {
            Error::settings(format!("cannot {doing}: not allowed to use the transactional id"))
                .help("Grant the principal WRITE and DESCRIBE on transactional ids with the prefix `rollcall-`.")
        }
        Code::ClusterAuthorizationFailed => Error::settings(format!("cannot {doing}: not allowed on the cluster"))
            .help("Grant the principal IDEMPOTENT_WRITE, or CREATE if the cursor topic is to be created."),
        Code::UnknownTopic | Code::UnknownTopicOrPartition => Error::settings(format!(
            "cannot {doing}: there is no such topic"
        ))
        .help("Create the topic, or mend its name in the mapping. Nothing is lost: delivery goes on when it exists."),
        Code::InvalidReplicationFactor | Code::PolicyViolation | Code::InvalidConfig => {
            Error::settings(format!("cannot {doing}: the cluster's rules forbid it"))
        }
        Code::InvalidTransactionTimeout => {
            Error::settings(format!("cannot {doing}: transaction.timeout.ms is too long"))
                .help("Set it to at most the broker's transaction.max.timeout.ms.")
        }
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch => {
            Error::wait(format!("cannot {doing}: another instance has taken over"))
                .help("Let one instance deliver to this destination at a time; this one did no harm.")
        }
        Code::BrokerTransportFailure | Code::AllBrokersDown | Code::Resolve | Code::OperationTimedOut => {
            Error::wait(format!("cannot {doing}: no broker answers"))
                .help("Check the broker addresses and the network.")
        }
        other => Error::wait(format!("cannot {doing}: {other}")),
    }
}

/// Whether another instance took over: then this one must not fence back, or the two take turns forever.
pub fn fenced(code: Code) -> bool {
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

/// Whether the record itself can never be stored, however often it is tried.
pub fn permanent(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::MessageBatchTooLarge
            | Code::InvalidRecord
            | Code::InvalidTimestamp
            | Code::InvalidTopic
            | Code::PolicyViolation
            | Code::UnknownPartition
            | Code::UnsupportedForMessageFormat
    )
}

/// Whether a permanent error is about this very record; the others are a whole batch's.
pub fn attributable(code: Code) -> bool {
    matches!(code, Code::UnknownPartition | Code::InvalidTopic)
}

/// Whether a topic that was just created may look like this for a while.
pub fn unknown_yet(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::LeaderNotAvailable)
    )
}

/// Whether a consumer gets over it by itself.
///
/// librdkafka asks for the coordinator of a consumer's group even where partitions are assigned by hand and nothing is committed. Who has
/// no right on groups is refused that, once, and reads on: no answer of the coordinator is ever used.
pub fn passes(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::OperationTimedOut
                | Code::Resolve
                | Code::GroupAuthorizationFailed
        )
    )
}
