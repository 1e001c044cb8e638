//! (being written)
#[test]
fn differential() {
    let Ok(files) = std::env::var("VECTORS") else { return };
    for file in files.split(',') {
        let cases = rollcall::cli::map::vectors::run(&std::fs::read_to_string(file).unwrap()).unwrap();
        let total = cases.len();
        let mut failed = 0;
        for case in cases {
            if let Some(difference) = case.difference {
                failed += 1;
                println!("{} {} {}", case.id, case.kind, difference);
            }
        }
        println!("{file} {failed} of {total}");
    }
}
#[test]
fn probe() {
    for file in ["mapping", "fql", "send", "partitioner", "membership"] {
        let text = std::fs::read_to_string(format!("tests/data/vectors/{file}.json")).unwrap();
        let cases = rollcall::cli::map::vectors::run(&text).unwrap();
        let mut totals = std::collections::BTreeMap::new();
        for case in cases {
            let total: &mut (u32, u32) = totals.entry(case.tier.clone()).or_default();
            total.1 += 1;
            match case.difference {
                Some(difference) => println!("{} {} {} {}", case.id, case.kind, case.tier, difference),
                None => total.0 += 1,
            }
        }
        println!("{file} {totals:?}");
    }
}
