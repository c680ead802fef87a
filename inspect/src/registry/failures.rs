//! What to say of what a registry does not give.

use reqwest::StatusCode;

use super::Repository;
use crate::unreadable::Unreadable;

impl Repository<'_> {
    pub(crate) fn not_found(&self, name: &str) -> Unreadable {
        let what = format!("{}{name}", self.repository);
        Unreadable::NotFound { registry: self.registry.clone(), what }
    }

    pub(crate) fn failed(&self, what: &str, status: StatusCode) -> Unreadable {
        let (registry, what) = (self.registry.clone(), what.to_owned());
        Unreadable::Failed { registry, what, status: status.as_u16() }
    }

    pub(crate) fn too_large(&self, what: &str, limit: &str) -> Unreadable {
        let (registry, what) = (self.registry.clone(), what.to_owned());
        Unreadable::TooLarge { registry, what, limit: limit.to_owned() }
    }

    pub(crate) fn malformed(&self, what: &str, why: &str) -> Unreadable {
        let (registry, what) = (self.registry.clone(), what.to_owned());
        Unreadable::Malformed { registry, what, why: why.to_owned() }
    }

    pub(super) fn denied(&self, what: &str) -> Unreadable {
        let (registry, what) = (self.registry.clone(), what.to_owned());
        Unreadable::Denied { registry, what, helper: self.helper }
    }

    pub(super) fn slow(&self, what: &str) -> Unreadable {
        let (registry, what) = (self.registry.clone(), what.to_owned());
        Unreadable::Slow { registry, what, limit: self.registries.limits.request }
    }

    /// Without the URL: that of a redirect may hold a signature that grants access.
    pub(super) fn not_reached(&self, what: &str, error: reqwest::Error) -> Unreadable {
        if error.is_timeout() {
            return self.slow(what);
        }
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Unreadable::Unreachable { registry: self.registry.clone(), why: cause.to_string() }
    }
}
