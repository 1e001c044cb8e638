//! Is this still the topic that was sent to? A topic's id tells it from a later one by the same name.
//!
//! rust-rdkafka does not wrap librdkafka's DescribeTopics, so this file does.

use std::{
    ffi::{CStr, CString, c_char},
    ptr,
    time::Duration,
};

use rdkafka::{
    bindings as ffi,
    client::{Client, ClientContext},
    types::RDKafkaErrorCode as Code,
};
use uuid::Uuid;

use super::trouble;
use crate::{Error, Result};

/// What a broker says of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// `None` where the broker has no topic ids (before 2.8), or there is no such topic.
    pub id: Option<Uuid>,
    /// Why the topic cannot be used.
    pub error: Option<Code>,
    /// What we may do with it, when that was asked for and the broker tells.
    pub permitted: Option<Permitted>,
}

/// What the broker lets us do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permitted {
    pub read: bool,
    pub write: bool,
}

/// Asks a broker about topics.
///
/// # Errors
/// If no broker answers within `timeout`.
pub fn describe<C: ClientContext>(client: &Client<C>, names: &[String], timeout: Duration) -> Result<Vec<Topic>> {
    ask(client, names, timeout, false)
}

/// As [`describe`], and what we may do with each topic.
///
/// # Errors
/// If no broker answers within `timeout`.
pub fn permitted<C: ClientContext>(client: &Client<C>, names: &[String], timeout: Duration) -> Result<Vec<Topic>> {
    ask(client, names, timeout, true)
}

fn ask<C: ClientContext>(
    client: &Client<C>,
    names: &[String],
    timeout: Duration,
    permissions: bool,
) -> Result<Vec<Topic>> {
    let c_names: Vec<CString> = names
        .iter()
        .map(|name| CString::new(name.as_str()))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::settings("a topic name contains a NUL character").because(error))?;
    if c_names.is_empty() {
        return Ok(Vec::new());
    }
    let mut pointers: Vec<*const c_char> = c_names.iter().map(|name| name.as_ptr()).collect();
    let timeout_ms = timeout.as_millis().try_into().unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`; the names outlive the collection, which copies them; whatever is created here
    // is destroyed at the end of this function, the queue last, after the event that came from it; strings read from the
    // event are copied before it is destroyed. Results are null-checked where librdkafka may return null.
    unsafe {
        let queue = ffi::rd_kafka_queue_new(rk);
        let collection = ffi::rd_kafka_TopicCollection_of_topic_names(pointers.as_mut_ptr(), pointers.len());
        let options = ffi::rd_kafka_AdminOptions_new(rk, ffi::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        let mut text = [0; 256];
        ffi::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, text.as_mut_ptr(), text.len());
        if permissions {
            let error = ffi::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
            if !error.is_null() {
                ffi::rd_kafka_error_destroy(error);
            }
        }
        ffi::rd_kafka_DescribeTopics(rk, collection, options, queue);
        let event = ffi::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000));
        let described = read(event);
        if !event.is_null() {
            ffi::rd_kafka_event_destroy(event);
        }
        ffi::rd_kafka_AdminOptions_destroy(options);
        ffi::rd_kafka_TopicCollection_destroy(collection);
        ffi::rd_kafka_queue_destroy(queue);
        described.map_err(|code| trouble::code(code, "ask for the topics"))
    }
}

/// SAFETY: `event` is null, or the result of DescribeTopics.
unsafe fn read(event: *mut ffi::rd_kafka_event_t) -> Result<Vec<Topic>, Code> {
    if event.is_null() {
        return Err(Code::OperationTimedOut);
    }
    // SAFETY: as this function's; topics and what they point to live as long as the event.
    unsafe {
        let error = Code::from(ffi::rd_kafka_event_error(event));
        if error != Code::NoError {
            return Err(error);
        }
        let result = ffi::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = ffi::rd_kafka_DescribeTopics_result_topics(result, ptr::from_mut(&mut count));
        let mut described = Vec::with_capacity(count);
        for index in 0..count {
            let topic = *topics.add(index);
            let name = CStr::from_ptr(ffi::rd_kafka_TopicDescription_name(topic)).to_string_lossy().into_owned();
            let error = ffi::rd_kafka_TopicDescription_error(topic);
            let code = if error.is_null() { Code::NoError } else { Code::from(ffi::rd_kafka_error_code(error)) };
            let id = ffi::rd_kafka_TopicDescription_topic_id(topic);
            let id = if id.is_null() {
                Uuid::nil()
            } else {
                let most = ffi::rd_kafka_Uuid_most_significant_bits(id) as u64;
                Uuid::from_u64_pair(most, ffi::rd_kafka_Uuid_least_significant_bits(id) as u64)
            };
            let error = (code != Code::NoError).then_some(code);
            let mut count = 0;
            let allowed = ffi::rd_kafka_TopicDescription_authorized_operations(topic, ptr::from_mut(&mut count));
            let may = |operation| (0..count).any(|index| *allowed.add(index) == operation);
            let permitted = (!allowed.is_null() && error.is_none()).then(|| Permitted {
                read: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ),
                write: may(ffi::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE),
            });
            described.push(Topic { name, id: (!id.is_nil()).then_some(id), error, permitted });
        }
        Ok(described)
    }
}
