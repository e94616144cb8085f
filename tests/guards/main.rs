//! Guards: what must not change while the code moves. What each golden file pins, and who may rewrite
//! one, is in `README.md` next to this file.

mod golden;

mod fixture;

mod fates;

mod settings;

mod faults;

mod faults_between;

mod topics;

mod chart;
