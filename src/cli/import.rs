//! `rollcall import FILE…|-`
