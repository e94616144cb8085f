//! Bytes from outside: none panic, none take long, and each option and secret that is ill-formed is told.
