//! The orders that the demo imports: CDNOW, a music shop, January 1997 to June 1998, as Segment messages.
//!
//! 23,570 customers who first bought in the first quarter of 1997, and their 69,659 orders. Published with
//! Fader and Hardie, "Forecasting Repeat Sales at CDNOW: A Case Study", Interfaces 31 (2001).

use std::{
    collections::HashMap,
    fmt::Write,
    io::{Cursor, Read},
};

use chrono::{Datelike, NaiveDate, NaiveTime, SecondsFormat, TimeDelta};

use crate::{
    Error, Result,
    profile::source::{Reading, Source},
};

static CDNOW: &[u8] = include_bytes!("../../../data/cdnow.txt.zst");

/// Messages are ordered by time: an Identify when a customer first buys, a Track for each order.
pub fn source() -> Result<Source> {
    let messages = messages()?;
    let mut source = Source::stream("CDNOW orders", Box::new(Cursor::new(messages)), Reading::default())?;
    // Made from what is compiled in: known without reading it. Changes with what the lines below make of it.
    source.digest = Some("cdnow-1".into());
    Ok(source)
}

struct Order {
    customer: u32,
    day: NaiveDate,
    quantity: u32,
    /// As written: two decimal places.
    revenue: String,
}

fn messages() -> Result<String> {
    let mut orders = read().ok_or_else(|| Error::internal("the CDNOW orders in this program cannot be read"))?;
    // Stable: a customer's orders of one day keep their order.
    orders.sort_by_key(|order| (order.day, order.customer));
    let mut counts: HashMap<u32, u32> = HashMap::new();
    let mut out = String::with_capacity(orders.len() * 256);
    for Order { customer, day, quantity, revenue } in &orders {
        let count = counts.entry(*customer).or_default();
        *count += 1;
        // The file knows days only. From noon on each customer has a second of their own, later orders a minute each.
        let noon = day.and_time(NaiveTime::MIN).and_utc() + TimeDelta::hours(12);
        let at = noon + TimeDelta::seconds(i64::from(customer % 60)) + TimeDelta::minutes(i64::from(*count % 600));
        let time = at.to_rfc3339_opts(SecondsFormat::Secs, true);
        // Writing to a string cannot fail.
        if *count == 1 {
            let week = day.iso_week();
            let _ = writeln!(
                out,
                r#"{{"type":"identify","messageId":"cdnow-{customer:05}","userId":"{customer:05}","timestamp":"{time}","traits":{{"first_order_date":"{day}T00:00:00Z","cohort_week":"{}-W{:02}","first_order_revenue":{revenue},"first_order_quantity":{quantity}}}}}"#,
                week.year(),
                week.week()
            );
        }
        let _ = writeln!(
            out,
            r#"{{"type":"track","event":"Order Completed","messageId":"cdnow-{customer:05}-{count}","userId":"{customer:05}","timestamp":"{time}","properties":{{"revenue":{revenue},"quantity":{quantity},"currency":"USD","order_number":{count}}}}}"#
        );
    }
    Ok(out)
}

/// Lines of customer, day as 19970101, number of discs and dollars, after a header.
fn read() -> Option<Vec<Order>> {
    let mut text = String::new();
    zstd::Decoder::new(CDNOW).ok()?.read_to_string(&mut text).ok()?;
    text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(order).collect()
}

fn order(line: &str) -> Option<Order> {
    let mut fields = line.split_whitespace();
    let customer = fields.next()?.parse().ok()?;
    let day = NaiveDate::parse_from_str(fields.next()?, "%Y%m%d").ok()?;
    Some(Order { customer, day, quantity: fields.next()?.parse().ok()?, revenue: fields.next()?.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Body, Defaults, Message};

    #[test]
    fn all_customers_and_orders_are_messages() {
        let orders = read().unwrap();
        assert_eq!(orders.len(), 69_659);
        let days: Vec<String> = orders.iter().map(|order| order.day.to_string()).collect();
        assert_eq!(
            (days.iter().min().unwrap().as_str(), days.iter().max().unwrap().as_str()),
            ("1997-01-01", "1998-06-30")
        );
        let defaults = Defaults {
            now: chrono::Utc::now(),
            is_arrival: false,
            place: None,
            source_id: None,
            rules: Default::default(),
        };
        let text = messages().unwrap();
        let messages: Vec<_> =
            text.lines().map(|line| Message::parse(1, line.as_bytes(), &defaults).unwrap()).collect();
        assert_eq!(messages.iter().filter(|message| matches!(message.body, Body::Identify { .. })).count(), 23_570);
        assert_eq!(messages.len(), 23_570 + 69_659);
        assert!(messages.is_sorted_by_key(|message| message.occurred_at.date_naive()));
    }
}
