//! Flockler's names: what it is called, its headers and its documented types.

use crate::providers::api::Spec;

/// The header that carries the MAC.
pub const SIGNATURE: &str = "x-flockler-signature";

/// The header with the action.
pub const ACTION: &str = "x-flockler-action";

/// The header with the environment.
pub const ENVIRONMENT: &str = "x-flockler-env";

/// All actions. Documented.
pub const ACTIONS: [&str; 3] = ["publish", "update", "unpublish"];

/// All environments. Documented, with the advice to accept `production` alone.
pub const ENVIRONMENTS: [&str; 4] = ["development", "sandbox", "staging", "production"];

/// What holds whatever the source.
pub static SPEC: Spec = Spec {
    name: "flockler",
    documented: &["article.publish", "article.update", "article.unpublish"],
    headers: &[SIGNATURE, ACTION, ENVIRONMENT],
};
