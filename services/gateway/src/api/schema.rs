//! Texts as JSON Schema: the rules of ids, names, durations and so on, as the document states them. The code
//! that reads a text decides; `docs/openapi.json` is compared with it by `cargo xtask e2e api`.

use std::borrow::Cow;

use metering::Currency;
use serde_json::Value;
use utoipa::{
    Number, PartialSchema, ToSchema,
    openapi::{
        KnownFormat, Object, ObjectBuilder, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::AnyOfBuilder,
    },
};

use super::error::ErrorJson;
use crate::admission::{decision::Reason, run_key::ID_CHARS_MAX};

/// Longest API key; n8n's are tokens of a few hundred characters.
pub const API_KEY_CHARS_MAX: usize = 4_096;

/// Reasons that are not the plan's.
pub const UNKNOWN_TENANT: &str = "unknown_tenant";
pub const NOT_ATTRIBUTED: &str = "not_attributed";

/// White space as Unicode has it: what a text may not consist of. `\s` differs between languages.
const SPACE: &str = r"\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000";

/// Declares types that exist only in the document: text with a rule of its own.
macro_rules! texts {
    ($($(#[doc = $doc:literal])+ $name:ident = $shown:literal, $schema:expr;)+) => {
        $(
            $(#[doc = $doc])+
            pub enum $name {}

            impl PartialSchema for $name {
                fn schema() -> RefOr<Schema> {
                    let description = concat!($($doc),+).trim();
                    RefOr::T(described($schema, description))
                }
            }

            impl ToSchema for $name {
                fn name() -> Cow<'static, str> {
                    Cow::Borrowed($shown)
                }
            }
        )+

        /// All of them, for the document's components.
        pub fn texts() -> Vec<(String, RefOr<Schema>)> {
            vec![$(($shown.to_owned(), $name::schema())),+]
        }
    };
}

texts! {
    /// A tenant's id, chosen by the operator.
    TenantIdText = "TenantId", chosen("north");
    /// A plan's id, chosen by the operator.
    PlanIdText = "PlanId", chosen("pro");
    /// A source's id, chosen by the operator.
    SourceIdText = "SourceId", chosen("north-n8n");
    /// A workflow's id at its source: printable characters without spaces.
    WorkflowIdText = "WorkflowId", text(
        r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028-\u202f\u205f\u2066-\u2069\u3000]+$", 1, 128);
    /// Identifies a run: printable characters without spaces.
    RunIdText = "RunId", text(
        r"^[^\u0000-\u0020\u007f-\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$", 1, ID_CHARS_MAX);
    /// A name for people: no control characters.
    NameText = "Name", printable();
    /// A tag's name or a project's id: no control characters.
    ScopeText = "Scope", printable();
    /// Any text without NUL.
    PlainText = "PlainText", ObjectBuilder::new().schema_type(Type::String).pattern(Some(r"^[^\u0000]*$"));
    /// A text that is not blank, without NUL.
    ShortText = "ShortText", not_blank(200);
    /// A reason that is not blank, without NUL.
    ReasonText = "Reason", not_blank(2_000);
    /// Time between sweeps, 1 s to 24 h, e.g. `10m`. Other spellings of a duration (`90 seconds`, `PT10M`) are
    /// read too.
    PollIntervalText = "PollInterval", duration(&format!(
        "({}h)?( ?{}m)?( ?{}s)?|24h|{}m|{}s", "([1-9]|1[0-9]|2[0-3])", SIXTIETH, SIXTIETH,
        "([1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)",
        "([1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)"), "10m");
    /// A duration of 1 s to 400 days, e.g. `24h`. Other spellings of a duration (`90 seconds`, `PT10M`) are read
    /// too.
    LongDurationText = "LongDuration", duration(&format!(
        "({}h)?( ?{}m)?( ?{}s)?|9600h|{}m|{}s", "([1-9][0-9]{0,2}|[1-8][0-9]{3}|9[0-5][0-9]{2})",
        SIXTIETH, SIXTIETH, "[1-9][0-9]{0,4}", "[1-9][0-9]{0,6}"), "24h");
    /// The IANA name of a time zone. Upper and lower case are not distinguished when it is read.
    TimeZoneText = "TimeZone", choice(metering::time_zone_names());
    /// An ISO 4217 code in lower case.
    CurrencyText = "Currency", choice(Currency::all().iter().map(|currency| currency.as_str().to_owned()));
    /// The language of mails and messages.
    LanguageText = "Language", choice(["en", "es"]);
    /// A mail address. Letters of any script are accepted too.
    MailText = "MailAddress", text(&mail(), 3, 254);
    /// A Stripe customer's id; empty for none.
    StripeCustomerText = "StripeCustomer", text("^(cus_[!-~]{0,251})?$", 0, 255);
    /// The event name of a Stripe meter; empty for none.
    MeterEventText = "MeterEvent", text("^[!-~]*$", 0, 100);
    /// An n8n's API key.
    ApiKeyText = "ApiKey", text("^[!-~]+$", 1, API_KEY_CHARS_MAX);
    /// The address of n8n's editor: http or https, without user, query or fragment. Other spellings of an address
    /// (upper case, international domains) are accepted too.
    BaseUrlText = "BaseUrl", text(&base_url(), 8, 2_000).examples(["https://n8n.example.com"]);
    /// `next_page` of an earlier answer.
    PageText = "Page", text(r"^[0-9]{1,15}\.[0-9]{1,9}\.[0-9]{1,9}\.[0-9]{1,18}$", 7, 54);
    /// Why the limit check decides as it does.
    AdmissionReasonText = "AdmissionReason", choice(
        Reason::ALL.iter().map(|reason| reason.as_str()).chain([UNKNOWN_TENANT, NOT_ATTRIBUTED]));
    /// An amount that is not negative, in the currency's minor unit.
    AmountNumber = "Amount", ObjectBuilder::new().schema_type(Type::Integer)
        .minimum(Some(Number::Int(0))).maximum(Some(Number::Int(isize::MAX)));
    /// A share of the limit, in percent.
    ThresholdNumber = "Threshold", ObjectBuilder::new().schema_type(Type::Integer)
        .minimum(Some(Number::Int(1))).maximum(Some(Number::Int(1_000)));
    /// Why a source cannot be swept.
    FailureReasonText = "FailureReason", choice([
        "unspecified", "unreachable", "unauthorized", "rate_limited", "unreadable", "too_large",
        "secret_unreadable", "internal"]);
    /// What a warning is about: the first four concern a source, the last a tenant.
    WarningCodeText = "WarningCode", choice([
        "clock", "shared_push_token", "same_instance", "same_address", "same_customer"]);
    /// How a source and the count differ.
    FindingText = "AuditFinding", choice(["not_recorded", "different", "not_shown", "unspecified"]);
    /// How an execution ended.
    StatusText = "ExecutionStatus", choice(["success", "error", "crashed", "canceled"]);
}

/// A number that a duration names after a larger unit.
const SIXTIETH: &str = "([1-9]|[1-5][0-9])";

/// An instant (RFC 3339), or a date in the tenant's time zone.
pub enum MomentText {}

impl PartialSchema for MomentText {
    fn schema() -> RefOr<Schema> {
        let of = |format| {
            ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::KnownFormat(format)))
        };
        let moment = AnyOfBuilder::new()
            .item(of(KnownFormat::DateTime))
            .item(of(KnownFormat::Date))
            .description(Some("An instant (RFC 3339), or a date in the tenant's time zone."));
        RefOr::T(moment.into())
    }
}

impl ToSchema for MomentText {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Moment")
    }
}

/// A number to add to a count: not zero, and at most a million millions up or down.
pub enum QuantityNumber {}

impl PartialSchema for QuantityNumber {
    fn schema() -> RefOr<Schema> {
        let of = |least, most| {
            ObjectBuilder::new()
                .schema_type(Type::Integer)
                .minimum(Some(Number::Int(least)))
                .maximum(Some(Number::Int(most)))
        };
        let most = 1_000_000_000_000;
        let quantity = OneOfBuilder::new().item(of(1, most)).item(of(-most, -1)).description(Some(
            "A number to add to a count: not zero, and at most a million millions up or down.",
        ));
        RefOr::T(quantity.into())
    }
}

impl ToSchema for QuantityNumber {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Quantity")
    }
}

/// The body of 429 of the limit check: the refusal that `status=429` asks for, or too many requests at once.
pub enum RefusedOrError {}

impl PartialSchema for RefusedOrError {
    fn schema() -> RefOr<Schema> {
        let either = OneOfBuilder::new()
            .item(Ref::from_schema_name("AdmissionJson"))
            .item(Ref::from_schema_name(ErrorJson::name()))
            .description(Some("The refusal that was asked for, or why there is none."));
        RefOr::T(either.into())
    }
}

impl ToSchema for RefusedOrError {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("RefusedOrError")
    }
}

fn described(schema: impl Into<Object>, description: &str) -> Schema {
    let mut object: Object = schema.into();
    object.description = Some(description.to_owned());
    Schema::Object(object)
}

/// A text of this pattern and length. Schema counts characters as we do.
fn text(pattern: &str, chars_min: usize, chars_max: usize) -> ObjectBuilder {
    let object = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern));
    let min = (chars_min > 0).then_some(chars_min);
    object.min_length(min).max_length(Some(chars_max))
}

fn chosen(example: &str) -> ObjectBuilder {
    text("^[a-z0-9][a-z0-9_-]*$", 1, 64).examples([example])
}

fn printable() -> ObjectBuilder {
    text(r"^[^\u0000-\u001f\u007f-\u009f]+$", 1, 200)
}

fn not_blank(chars_max: usize) -> ObjectBuilder {
    text(&format!(r"^[^\u0000]*[^\u0000{SPACE}][^\u0000]*$"), 1, chars_max)
}

fn duration(pattern: &str, example: &str) -> ObjectBuilder {
    text(&format!("^({pattern})$"), 2, 13).examples([example])
}

fn choice<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.into_iter().map(Into::into)))
}

/// A label of a domain, and one that is not a number: a domain that ends with a number is an IP address.
const LABEL: &str = "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?";
const NAMED: &str = "[a-z]([a-z0-9-]{0,20}[a-z0-9])?";

fn mail() -> String {
    const ATOM: &str = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,30}";
    format!(r"^{ATOM}(\.{ATOM})?@({LABEL}\.){{0,3}}{NAMED}$")
}

fn base_url() -> String {
    const BYTE: &str = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
    const PORT: &str = ":([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3})";
    let host = format!(r"(({LABEL}\.){{0,4}}{NAMED}|({BYTE}\.){{3}}{BYTE}|\[::1\])");
    format!(r"^https?://{host}({PORT})?(/[A-Za-z0-9_~-]{{1,40}})*/?$")
}
