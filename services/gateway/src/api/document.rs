//! The OpenAPI document: what the derives say, with the rules that hold for every operation.

#![allow(unused_qualifications, reason = "utoipa spells out the types of components")]

use std::collections::BTreeSet;

use utoipa::{
    Modify, Number, OpenApi, PartialSchema, ToSchema,
    openapi::{
        Components, KnownFormat, Object, OneOfBuilder, PathItem, RefOr, Schema, SchemaFormat, Type,
        path::{Operation, Parameter, ParameterIn},
        schema::{AdditionalProperties, ArrayItems, SchemaType},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use super::{
    authenticate,
    error::ErrorJson,
    responses,
    schema::{self, MomentText, QuantityNumber, RefusedOrError},
};

/// The document without its operations.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flowmeter",
        description = "Plans, tenants and sources; usage; the limit check. Instants are RFC 3339, amounts are in \
                       the currency's minor unit, what is not known is null. An answer has every field that is \
                       listed as required, and may have others: ignore those. A request with an unknown field \
                       or query parameter is refused."
    ),
    components(schemas(ErrorJson)),
    modifiers(&Shared),
    security(("token" = []), ("session" = []))
)]
pub struct Document;

/// Ways to authenticate, and the schemas of texts.
struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Components::new);
        let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
        let cookie = ApiKey::Cookie(ApiKeyValue::new(authenticate::SESSION_COOKIE));
        components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
        components.schemas.extend(schema::texts());
        let combined = [
            (MomentText::name(), MomentText::schema()),
            (QuantityNumber::name(), QuantityNumber::schema()),
            (RefusedOrError::name(), RefusedOrError::schema()),
        ];
        components.schemas.extend(combined.map(|(name, schema)| (name.into_owned(), schema)));
    }
}

/// Fields of answers that are left out where they have no value; all others are always there.
const LEFT_OUT: [(&str, &str); 1] = [("ErrorDetail", "field")];

/// Fields of which a body has at most one, or exactly one.
const ALTERNATIVES: [(&str, Choice, &[&str]); 4] = [
    ("AttributionJson", Choice::AtMostOne, &["workflow", "tag", "project"]),
    // With a source's push token both may be left out.
    ("AdmissionInput", Choice::AtMostOne, &["tenant", "source"]),
    ("CorrectionInput", Choice::One, &["void", "adjust"]),
    // A source without a tenant needs attributions.
    ("SourceInput", Choice::FirstOrFilled, &["tenant", "attributions"]),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    One,
    AtMostOne,
    FirstOrFilled,
}

/// Adds to the merged document what the derives cannot say.
pub fn finish(document: &mut utoipa::openapi::OpenApi) {
    let (mut asked, mut answered) = (BTreeSet::new(), BTreeSet::new());
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        responses::add_common(operation);
        operation.parameters.iter_mut().flatten().for_each(|parameter| {
            if let RefOr::T(parameter) = parameter {
                finish_parameter(parameter);
            }
        });
        names_of(operation, &mut asked, &mut answered);
    }
    let Some(components) = &mut document.components else { return };
    for names in [&mut asked, &mut answered] {
        let mut new: Vec<String> = names.iter().cloned().collect();
        while let Some(name) = new.pop() {
            let Some(schema) = components.schemas.get(&name) else { continue };
            references(schema, &mut |found| {
                if names.insert(found.to_owned()) {
                    new.push(found.to_owned());
                }
            });
        }
    }
    for (name, schema) in &mut components.schemas {
        let RefOr::T(schema) = schema else { continue };
        bound_numbers(schema);
        if answered.contains(name) && !asked.contains(name) {
            require_all(name, schema);
        }
        if let Some((_, choice, fields)) = ALTERNATIVES.iter().find(|(of, ..)| of == name) {
            split(schema, *choice, fields);
        }
        if name == "TenantInput" {
            split_dated(schema, "limit_override_until", "limit_override");
        }
    }
    components.schemas.retain(|name, _| asked.contains(name) || answered.contains(name));
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
}

/// A parameter is there or it is not; it is never null.
fn finish_parameter(parameter: &mut Parameter) {
    let Some(schema) = &mut parameter.schema else { return };
    if let RefOr::T(inner) = schema {
        bound_numbers(inner);
        match inner {
            Schema::Object(object) => {
                if let SchemaType::Array(types) = &object.schema_type
                    && let [one, Type::Null] | [Type::Null, one] = types.as_slice()
                {
                    object.schema_type = SchemaType::Type(one.clone());
                }
            }
            Schema::OneOf(one_of) => {
                one_of.items.retain(|item| !is_null(item));
                if let [only] = one_of.items.as_slice() {
                    *schema = only.clone();
                }
            }
            _ => {}
        }
    }
    if parameter.parameter_in == ParameterIn::Path && parameter.description.is_none() {
        parameter.description = Some("Its id.".to_owned());
    }
}

fn is_null(schema: &RefOr<Schema>) -> bool {
    matches!(schema, RefOr::T(Schema::Object(Object { schema_type: SchemaType::Type(Type::Null), .. })))
}

/// The schemas that an operation names, in its request and in its answers.
fn names_of(operation: &Operation, asked: &mut BTreeSet<String>, answered: &mut BTreeSet<String>) {
    let mut ask = |schema: &RefOr<Schema>| {
        references(schema, &mut |name| {
            asked.insert(name.to_owned());
        });
    };
    for parameter in operation.parameters.iter().flatten() {
        if let RefOr::T(parameter) = parameter {
            parameter.schema.iter().for_each(&mut ask);
        }
    }
    if let Some(RefOr::T(body)) = &operation.request_body {
        for content in body.content.values() {
            if let RefOr::T(content) = content {
                content.schema.iter().for_each(&mut ask);
            }
        }
    }
    for response in operation.responses.responses.values() {
        let RefOr::T(response) = response else { continue };
        for content in response.content.values() {
            let RefOr::T(content) = content else { continue };
            if let Some(schema) = &content.schema {
                references(schema, &mut |name| {
                    answered.insert(name.to_owned());
                });
            }
        }
    }
}

/// Calls `found` with the name of each schema that this one refers to.
fn references(schema: &RefOr<Schema>, found: &mut dyn FnMut(&str)) {
    let schema = match schema {
        RefOr::Ref(reference) => {
            if let Some((_, name)) = reference.ref_location.rsplit_once('/') {
                found(name);
            }
            return;
        }
        RefOr::T(schema) => schema,
    };
    match schema {
        Schema::Object(object) => {
            object.properties.values().for_each(|property| references(property, found));
            if let Some(AdditionalProperties::RefOr(more)) = object.additional_properties.as_deref() {
                references(more, found);
            }
        }
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(item) = &array.items {
                references(item, found);
            }
        }
        Schema::OneOf(of) => of.items.iter().for_each(|item| references(item, found)),
        Schema::AllOf(of) => of.items.iter().for_each(|item| references(item, found)),
        Schema::AnyOf(of) => of.items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// States the bounds of the integer that a field is read into.
fn bound_numbers(schema: &mut Schema) {
    let object = match schema {
        Schema::Object(object) => object,
        Schema::Array(array) => {
            if let ArrayItems::RefOrSchema(item) = &mut array.items
                && let RefOr::T(item) = item.as_mut()
            {
                bound_numbers(item);
            }
            return;
        }
        Schema::AllOf(of) => {
            for item in &mut of.items {
                if let RefOr::T(item) = item {
                    bound_numbers(item);
                }
            }
            return;
        }
        _ => return,
    };
    for property in object.properties.values_mut() {
        if let RefOr::T(property) = property {
            bound_numbers(property);
        }
    }
    let (most, least, format) = match (&object.format, object.minimum.is_some()) {
        (Some(SchemaFormat::KnownFormat(KnownFormat::Int32)), true) => (u32::MAX as usize, 0, "uint32"),
        (Some(SchemaFormat::KnownFormat(KnownFormat::Int64)), true) => (usize::MAX, 0, "uint64"),
        (Some(SchemaFormat::KnownFormat(KnownFormat::Int64)), false) => {
            (isize::MAX.unsigned_abs(), isize::MIN, "int64")
        }
        _ => return,
    };
    object.format = Some(SchemaFormat::Custom(format.to_owned()));
    object.maximum.get_or_insert(Number::UInt(most));
    object.minimum.get_or_insert(Number::Int(least));
}

fn require_all(name: &str, schema: &mut Schema) {
    match schema {
        Schema::Object(object) => {
            let is_kept = |field: &&String| !LEFT_OUT.contains(&(name, field.as_str()));
            object.required = object.properties.keys().filter(is_kept).cloned().collect();
        }
        Schema::AllOf(of) => {
            for item in &mut of.items {
                if let RefOr::T(item) = item {
                    require_all(name, item);
                }
            }
        }
        _ => {}
    }
}

/// Replaces an object by its alternatives. A field that an alternative lacks may still be given as null.
fn split(schema: &mut Schema, choice: Choice, fields: &[&str]) {
    let Schema::Object(object) = &*schema else { return };
    let mut variants: Vec<Object> = match choice {
        Choice::One | Choice::AtMostOne => {
            fields.iter().map(|field| with_only(object, fields, Some(field))).collect()
        }
        Choice::FirstOrFilled => {
            let [first, second] = fields else { return };
            let mut filled = with_only(object, &[first], None);
            require(&mut filled, second);
            if let Some(RefOr::T(Schema::Array(array))) = filled.properties.get_mut(*second) {
                array.min_items = Some(1);
            }
            vec![with_only(object, &[first], Some(first)), filled]
        }
    };
    if choice == Choice::AtMostOne {
        variants.push(with_only(object, fields, None));
    }
    *schema = one_of(object.description.clone(), variants);
}

/// `dated` needs `value`.
fn split_dated(schema: &mut Schema, dated: &str, value: &str) {
    let Schema::Object(object) = &*schema else { return };
    let mut both = with_only(object, &[dated], Some(dated));
    not_null(&mut both, value);
    *schema = one_of(object.description.clone(), vec![with_only(object, &[dated], None), both]);
}

fn one_of(description: Option<String>, variants: Vec<Object>) -> Schema {
    let mut one_of = OneOfBuilder::new().description(description);
    for mut variant in variants {
        variant.description = None;
        one_of = one_of.item(Schema::Object(variant));
    }
    Schema::OneOf(one_of.build())
}

/// The object with one of these fields, and the others null.
fn with_only(object: &Object, fields: &[&str], one: Option<&str>) -> Object {
    let mut object = object.clone();
    for field in fields.iter().filter(|field| Some(**field) != one) {
        let null = Object::with_type(Type::Null);
        object.properties.insert((*field).to_owned(), RefOr::T(Schema::Object(null)));
    }
    if let Some(one) = one {
        not_null(&mut object, one);
    }
    object
}

fn not_null(object: &mut Object, field: &str) {
    require(object, field);
    let Some(property) = object.properties.get_mut(field) else { return };
    let only = match property {
        RefOr::T(Schema::OneOf(of)) => of.items.iter().find(|item| !is_null(item)).cloned(),
        RefOr::T(Schema::Object(inner)) => {
            if let SchemaType::Array(types) = &mut inner.schema_type {
                types.retain(|kind| *kind != Type::Null);
                if let [one] = types.as_slice() {
                    inner.schema_type = SchemaType::Type(one.clone());
                }
            }
            None
        }
        _ => None,
    };
    if let Some(only) = only {
        *property = only;
    }
}

fn require(object: &mut Object, field: &str) {
    if !object.required.iter().any(|required| required == field) {
        object.required.push(field.to_owned());
    }
}
