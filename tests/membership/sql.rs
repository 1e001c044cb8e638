//! What Postgres is asked, for a telling list of definitions. The text holds nothing of a definition but its shape.

use std::{collections::HashMap, fmt::Write};

use rollcall::{
    audience::{
        conditions::{self, Keys},
        parse,
    },
    evaluate::{Names, statements},
};

use crate::support::histories::now;

fn compiled(query: &str) -> String {
    let ids = [("Order Completed", 1), ("Product Added", 2), ("Page Viewed", 3)];
    let ids: HashMap<String, i32> = ids.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
    let names = Names::new(ids, HashMap::from([((1, vec!["revenue".to_owned()]), 1)]));
    // Computed traits: one alone, and one of several.
    let stored = [("average_order", "average_order"), ("first_order", "order_totals")];
    let traits = stored.map(|(key, stored)| (key.to_owned(), stored.to_owned())).into();
    let keys = Keys { traits, ..Keys::default() };
    let formula = conditions::formula(&parse("a", query).unwrap(), &keys).unwrap();
    let conditions = conditions::distinct([&formula]);
    let mut told = String::new();
    for query in statements(&conditions, now(), &names).unwrap() {
        writeln!(told, "{}{}", if query.negated { "all but: " } else { "" }, query.text).unwrap();
        writeln!(told, "  {:?}", query.parameters).unwrap();
    }
    told
}

macro_rules! compiles {
    ($($name:ident: $query:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(concat!("sql_", stringify!($name)), compiled($query), $query);
        }
    )*};
}

compiles! {
    at_least_one_event_streams_ids: "event('Order Completed').within(30 days).count() >= 1";
    no_event_streams_the_ids_of_those_who_have_one: "event('Order Completed').within(30 days).count() = 0";
    a_promoted_sum_is_read_from_the_index:
        "event('Order Completed').between(7 days, 30 days).sum(property('revenue')) > 99.5";
    windows_that_overlap_share_a_scan:
        "event('Order Completed').within(30 days).count() >= 3 AND event('Order Completed').within(20 days).sum(property('revenue')) > 100";
    windows_that_hardly_overlap_do_not:
        "event('Order Completed').within(30 days).count() >= 3 AND event('Order Completed').within(1 day).count() >= 1";
    selections_of_one_event_share_a_scan:
        "event('Page Viewed').where(property('name') = 'Docs').count() >= 1 AND event('Page Viewed').where(property('name') = 'Pricing').count() >= 1";
    a_trait_is_compared_as_the_literal_s_type: "trait('address.city') = 'Bern' AND trait('score') >= 2.50";
    a_trait_that_omits_is_asked_in_the_negative: "trait('tags').omits('vip')";
    a_funnel_is_a_subquery_per_event:
        "event('Product Added').where(NOT event('Order Completed').within(parent: 1 day).where(property('sku') = property(parent: 'sku')).count() >= 1).within(7 days).count() >= 1";
    an_average_is_compared_crosswise: "event('Order Completed').avg(property('revenue')) > 12";
    the_most_frequent_text: "event('Page Viewed').mode(property('name'), 2) = 'Docs'";
    the_last_value_of_an_array: "event('Order Completed').last(property('products.$.sku')) = 'x'";
    a_property_is_held_against_a_trait: "event('Order Completed').where(property('total') >= trait('average')).count() >= 1";
    a_property_is_held_against_a_computed_trait:
        "event('Order Completed').where(property('total') >= trait('average_order')).count() >= 1";
    a_count_is_held_against_a_computed_trait_of_several: "event('Order Completed').count() > trait('first_order')";
    a_computed_trait_is_held_against_an_imported_one: "trait('average_order.$') = trait('score')";
    two_streams_are_compared_profile_by_profile: "event('Order Completed').count() > event('Product Added').count()";
    dates_are_relative_to_t: "trait('renews_at').within_next(7 days) AND trait('born').before_date(2000-01-01)";
    sources_are_excluded: "event('Page Viewed').sources({exclude: 'a\"b', 'c\\\\d'}).count() >= 1";
}

#[test]
fn nothing_of_a_definition_stands_in_the_text() {
    let told = compiled(
        "event('Order Completed').where(property('x\\'); drop table events; --') = 'y\\'; drop table profiles; --').count() >= 1",
    );
    let (text, parameters) = told.split_once('\n').unwrap();
    assert!(!text.contains("drop"), "{text}");
    assert!(parameters.contains("drop table events") && parameters.contains("drop table profiles"), "{parameters}");
}
