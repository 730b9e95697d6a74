//! Refusals and failures, as Azure answers them.

use crate::stores::{ErrorKind, StoreError};

/// 400 with this code.
pub(super) fn invalid(code: &str, message: impl Into<String>) -> StoreError {
    StoreError::answered(ErrorKind::Invalid, 400, code, message)
}

/// 400 `InvalidInput`: what was sent cannot be read.
pub(super) fn unreadable(message: impl Into<String>) -> StoreError {
    invalid("InvalidInput", message)
}

/// 404 `ResourceNotFound`.
pub(super) fn not_found() -> StoreError {
    StoreError::answered(ErrorKind::NotFound, 404, "ResourceNotFound", "The specified resource does not exist.")
}

/// 403 `AuthenticationFailed`.
pub(super) fn not_admitted(why: &str) -> StoreError {
    let message = format!(
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly \
         including the signature: {why}."
    );
    StoreError::answered(ErrorKind::Denied, 403, "AuthenticationFailed", message)
}

/// The status that a store's failure goes out with; nothing where nobody knows what became of the request.
pub(super) fn status(error: &StoreError) -> Option<u16> {
    let own = match error.kind {
        // What an adapter refused by itself, with the code that Azure would have answered with.
        ErrorKind::Invalid if error.code == "RequestBodyTooLarge" => Some(413),
        ErrorKind::Invalid => Some(400),
        _ => None,
    };
    error.status.or(own)
}
