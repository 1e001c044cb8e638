//! The migrations are compiled in: a new file must lead to a new build, which cargo cannot see by itself.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
