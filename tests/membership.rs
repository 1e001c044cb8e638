//! Who is in: the compiled SQL held against the interpreter, its snapshots, and what a failure may reach.

mod computed;
mod evaluation;
mod fire;
mod hostile;
mod oracle;
mod poison;
mod snapshot;
mod sql;
mod store;
mod universe;
mod values;
