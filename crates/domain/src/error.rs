//! The class of an error: what kind of thing went wrong, from which an HTTP status follows.

/// Says whose fault an error is and whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The thing named does not exist.
    NotFound,
    /// The request is sound but clashes with the present state.
    Conflict,
    /// The request itself is wrong.
    Invalid,
    /// The request is sound, but contradicts an earlier one that it claims to be.
    Unprocessable,
    /// The request is larger than a documented limit.
    TooLarge,
    /// The caller may not do this.
    Denied,
    /// It cannot be done now; the same request may succeed later.
    Unavailable,
    /// A fault of ours, or of the machine.
    Bug,
}
