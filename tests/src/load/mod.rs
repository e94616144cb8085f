//! What senders do: which requests, at which pace, and what they write down of it.

pub mod mix;

pub mod times;

pub mod open_loop;

pub mod lanes;

pub mod ledger;

pub mod raw;

mod window;
