//! Who is in: the compiled SQL held against the interpreter, its snapshots, and what a failure may reach.

mod oracle;
mod store;
