//! The failures that an operation may answer with, as the document lists them.

use std::collections::BTreeMap;

use utoipa::{
    IntoResponses, ToSchema,
    openapi::{
        ContentBuilder, Header, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder, Schema, Type,
        path::Operation,
    },
};

use super::error::ErrorJson;

/// Failures of every operation, from the layers around it and from the database behind it.
const COMMON: [(&str, &str); 7] = [
    ("400", "The request cannot be read: its query, or a NUL in it, or a body that is not JSON."),
    ("401", "There is no token, or not a valid one."),
    ("403", "This token does not allow that, or a change with a session's cookie has no `X-Flowmeter: 1`."),
    ("429", "The caller has too many requests in progress."),
    ("500", "Something went wrong here; the log says what."),
    ("503", "The database or another service does not answer, or too many requests are in progress."),
    ("504", "The answer took too long."),
];

/// Failures of every operation with a body.
const OF_BODIES: [(&str, &str); 2] =
    [("413", "The body is larger than 256 KiB."), ("415", "The body is not `application/json`.")];

/// Declares a failure for the `responses(...)` of an operation.
macro_rules! failures {
    ($($name:ident = $status:literal, $description:literal;)+) => {
        $(
            #[doc = $description]
            pub enum $name {}

            impl IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    [($status.to_owned(), RefOr::T(failure($status, $description)))].into()
                }
            }
        )+
    };
}

failures! {
    NotFound = "404", "There is nothing of this id.";
    Conflict = "409", "The present state does not allow it.";
    Invalid = "422", "A value is not valid; `field` names it, if it is a single one.";
}

/// Adds the failures that are not of this operation alone.
pub fn add_common(operation: &mut Operation) {
    let has_body = operation.request_body.is_some();
    let common = COMMON.iter().chain(OF_BODIES.iter().filter(|_| has_body));
    for (status, description) in common {
        let responses = &mut operation.responses.responses;
        responses.entry((*status).to_owned()).or_insert_with(|| RefOr::T(failure(status, description)));
    }
}

fn failure(status: &str, description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(error_body())).build();
    let response = ResponseBuilder::new().description(description).content("application/json", content);
    match status {
        "401" => response.header("WWW-Authenticate", header("`Bearer`")),
        "429" | "503" => response.header("Retry-After", header("Seconds until a repeat makes sense.")),
        _ => response,
    }
    .build()
}

fn header(description: &str) -> Header {
    let mut header = Header::new(ObjectBuilder::new().schema_type(Type::String));
    header.description = Some(description.to_owned());
    header
}

/// A reference to the body of every failure.
fn error_body() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(ErrorJson::name()))
}
