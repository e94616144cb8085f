//! What an operator or a developer runs by hand, each behind a target of the `Makefile`.

mod frame;

pub mod playground;

pub mod dev;

pub mod audit;

pub mod faults;

pub mod outage;

pub mod forbidden;

pub mod roll;

pub mod rotate;

pub mod hostile;

pub mod observe;

pub mod replay;

pub mod bench;

pub mod scale;

mod hints;

mod until_ctrl_c;
