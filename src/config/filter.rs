//! Field table of filter rules: predicates over jobs, and the action for jobs that match.
//!
//! Source: `Ganeti.Objects` (`FilterRule`, `FilterPredicate`, `FilterAction`) and
//! `Ganeti.Query.Language` (`Filter`).

use super::error::Error;
use super::number;
use super::schema::{FieldType, Record, expected};
use super::value::{Number, Value};
use super::writer::{Writer, elements, int};

pub(super) static FILTER_RULE: Record = Record {
    name: "FilterRule",
    fields: &[
        expected("watermark", FieldType::Custom(job_id)),
        expected("priority", FieldType::Custom(priority)),
        expected("predicates", FieldType::List(&FieldType::Custom(predicate))),
        expected("action", FieldType::Custom(action)),
        expected(
            "reason_trail",
            FieldType::List(&FieldType::Tuple(&[
                FieldType::String,
                FieldType::String,
                FieldType::Integer,
            ])),
        ),
        expected("uuid", FieldType::Uuid),
    ],
};

/// Writes a job id: an integral number or a string that reads as one, not negative.
fn job_id(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let id = match value.as_str() {
        Some(text) => number::read_int(text)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(id, _)| id),
        None => integral(value),
    };
    let id = id
        .filter(|id| *id >= 0)
        .ok_or_else(|| Error::new("expected a job id: a whole number, not negative"))?;
    writer.int(id);
    Ok(())
}

/// Writes a priority: a number that rounds to 0 or more.
fn priority(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    match int(value)? {
        negative @ ..0 => Err(Error::new(format!(
            "a priority must not be negative, found {negative}"
        ))),
        priority => {
            writer.int(priority);
            Ok(())
        }
    }
}

/// The number wrapped to 64 bits, if it has no fraction.
fn integral(value: Value<'_>) -> Option<i64> {
    match value.as_number()? {
        Number::Text(text) if !number::is_integral(text) => None,
        _ => int(value).ok(),
    }
}

/// Writes an action: `"ACCEPT"` or another name, or `["RATE_LIMIT", n]`.
fn action(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    const NAMES: [&str; 4] = ["ACCEPT", "PAUSE", "REJECT", "CONTINUE"];
    if value.as_str().is_some() {
        return writer.name("FilterAction", &NAMES, value);
    }
    let (name, limit) = pair(value)?;
    let limit = integral(limit).filter(|limit| name.as_str() == Some("RATE_LIMIT") && *limit > 0);
    let limit = limit
        .ok_or_else(|| Error::new("expected [\"RATE_LIMIT\", n] with a whole number n > 0"))?;
    let list = writer.open(b'[');
    writer.element();
    writer.string("RATE_LIMIT");
    writer.element();
    writer.int(limit);
    writer.close(list, b']');
    Ok(())
}

/// Writes a predicate, `["jobid" | "opcode" | "reason", expression]`.
fn predicate(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    let (what, filter) = pair(value)?;
    let list = writer.open(b'[');
    writer.element();
    writer.name("FilterPredicate", &["jobid", "opcode", "reason"], what)?;
    writer.element();
    expression(writer, filter).map_err(|error| error.under("1"))?;
    writer.close(list, b']');
    Ok(())
}

/// The elements of an array of two.
fn pair(value: Value<'_>) -> Result<(Value<'_>, Value<'_>), Error> {
    let mut elements = elements(value)?;
    match (elements.next(), elements.next(), elements.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(Error::new("expected an array of 2")),
    }
}

/// Writes an expression of the query language; `=` and `!=` are normalized as the reference does:
/// `=` prints as `==`, and `!=` as the negation of `==`.
fn expression(writer: &mut Writer<'_>, value: Value<'_>) -> Result<(), Error> {
    if value.is_null() {
        writer.push("null");
        return Ok(());
    }
    let mut arguments = elements(value)?;
    let operator = arguments.next().and_then(|operator| operator.as_str());
    let operator =
        operator.ok_or_else(|| Error::new("expected an array that starts with an operator"))?;
    let arguments: Vec<Value<'_>> = arguments.collect();
    match (operator, arguments.as_slice()) {
        ("&" | "|", _) | ("!", [_]) => {
            operation(writer, operator, &arguments, |writer, _, argument| {
                expression(writer, argument)
            })
        }
        ("?", [_]) => operation(writer, "?", &arguments, |writer, _, field| {
            text(writer, field)
        }),
        ("=" | "==", [_, _]) => operation(writer, "==", &arguments, field_and_value),
        ("<" | ">" | "<=" | ">=" | "=[]", [_, _]) => {
            operation(writer, operator, &arguments, field_and_value)
        }
        ("=~", [_, _]) => operation(writer, "=~", &arguments, |writer, _, argument| {
            text(writer, argument)
        }),
        ("!=", [_, _]) => {
            let list = writer.open(b'[');
            writer.element();
            writer.string("!");
            writer.element();
            operation(writer, "==", &arguments, field_and_value)?;
            writer.close(list, b']');
            Ok(())
        }
        _ => Err(Error::new(format!(
            "unknown operator \"{}\" with {} arguments",
            operator.escape_debug(),
            arguments.len()
        ))),
    }
}

/// Writes `[operator, argument, ...]`; `write` gets each argument with its index.
fn operation(
    writer: &mut Writer<'_>,
    operator: &str,
    arguments: &[Value<'_>],
    write: impl Fn(&mut Writer<'_>, usize, Value<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let list = writer.open(b'[');
    writer.element();
    writer.string(operator);
    for (index, argument) in arguments.iter().enumerate() {
        writer.element();
        write(writer, index, *argument).map_err(|error| error.under(&(index + 1).to_string()))?;
    }
    writer.close(list, b']');
    Ok(())
}

fn text(writer: &mut Writer<'_>, value: Value<'_>) -> Result<(), Error> {
    writer.write(&FieldType::String, value, value)
}

/// Writes the arguments of a comparison: a field name, then a string or an integral number.
fn field_and_value(writer: &mut Writer<'_>, index: usize, value: Value<'_>) -> Result<(), Error> {
    if index == 0 || value.as_str().is_some() {
        return text(writer, value);
    }
    match value.as_number() {
        Some(Number::Text(text)) if !number::is_integral(text) => {
            Err(Error::new("expected a whole number"))
        }
        Some(_) => writer.write(&FieldType::Integer, value, value),
        None => Err(Error::new(format!(
            "expected a string or a number, found {}",
            value.kind()
        ))),
    }
}
