//! In which region of AWS is a broker? Its name says.

/// The region that a broker of MSK names: `b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com`, also serverless.
pub fn region_of(host: &str) -> Option<&str> {
    let name = host.strip_suffix(".amazonaws.com").or_else(|| host.strip_suffix(".amazonaws.com.cn"))?;
    let (rest, region) = name.rsplit_once('.')?;
    let service = rest.rsplit('.').next()?;
    matches!(service, "kafka" | "kafka-serverless").then_some(region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_region_is_read_from_the_brokers_name() {
        assert_eq!(region_of("b-1.orders.abc123.c2.kafka.eu-west-1.amazonaws.com"), Some("eu-west-1"));
        assert_eq!(region_of("boot-x1.c1.kafka-serverless.us-east-1.amazonaws.com"), Some("us-east-1"));
        assert_eq!(region_of("b-1.orders.abc123.c2.kafka.cn-north-1.amazonaws.com.cn"), Some("cn-north-1"));
        assert_eq!(region_of("kafka.example.com"), None);
        assert_eq!(region_of("s3.eu-west-1.amazonaws.com"), None);
    }
}
