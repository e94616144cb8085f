//! Schemes of signing that providers share. No provider's name stands here.

pub mod hmac;

pub mod standard_webhooks;

pub mod age;
