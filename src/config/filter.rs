//! Filter rules: predicates over jobs, and what to do with those that match.
//!
//! Source: the reference's object model, 4.10; `Ganeti.Objects` (`FilterRule`, `FilterPredicate`, `FilterAction`),
//! `Ganeti.Query.Language` (`Filter`).

use super::schema::{Record, Type, Writer, elements, int, required};
use super::value::{Number, Value};
use super::{Error, number};

pub(super) static FILTER_RULE: Record = Record {
    name: "FilterRule",
    fields: &[
        required("watermark", Type::Custom(job_id)),
        required("priority", Type::Custom(priority)),
        required("predicates", Type::List(&Type::Custom(predicate))),
        required("action", Type::Custom(action)),
        required(
            "reason_trail",
            Type::List(&Type::Tuple(&[Type::String, Type::String, Type::Integer])),
        ),
        required("uuid", Type::Uuid),
    ],
};

/// An integral number, or a string that reads as one; not negative.
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
    writer.int(id)
}

fn priority(writer: &mut Writer<'_>, value: Value<'_>, _: Value<'_>) -> Result<(), Error> {
    match int(value)? {
        negative @ ..0 => Err(Error::new(format!(
            "a priority must not be negative, found {negative}"
        ))),
        priority => writer.int(priority),
    }
}

/// The number as an `Int`, if it has no fraction.
fn integral(value: Value<'_>) -> Option<i64> {
    match value.as_number()? {
        Number::Text(text) if !number::is_integral(text) => None,
        _ => int(value).ok(),
    }
}

/// `"ACCEPT"` and its like, or `["RATE_LIMIT", n]`.
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
    writer.string("RATE_LIMIT")?;
    writer.element();
    writer.int(limit)?;
    writer.close(list, b']');
    Ok(())
}

/// `[what, expression]`.
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

fn pair(value: Value<'_>) -> Result<(Value<'_>, Value<'_>), Error> {
    let mut elements = elements(value)?;
    match (elements.next(), elements.next(), elements.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(Error::new("expected an array of 2")),
    }
}

/// An expression of the query language; `=` and `!=` are written as the reference normalises them.
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
            writer.string("!")?;
            writer.element();
            operation(writer, "==", &arguments, field_and_value)?;
            writer.close(list, b']');
            Ok(())
        }
        _ => Err(Error::new(format!(
            "no such operator with {} arguments: \"{}\"",
            arguments.len(),
            operator.escape_debug()
        ))),
    }
}

fn operation(
    writer: &mut Writer<'_>,
    operator: &str,
    arguments: &[Value<'_>],
    write: impl Fn(&mut Writer<'_>, usize, Value<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    let list = writer.open(b'[');
    writer.element();
    writer.string(operator)?;
    for (index, argument) in arguments.iter().enumerate() {
        writer.element();
        write(writer, index, *argument).map_err(|error| error.under(&(index + 1).to_string()))?;
    }
    writer.close(list, b']');
    Ok(())
}

fn text(writer: &mut Writer<'_>, value: Value<'_>) -> Result<(), Error> {
    writer.write(&Type::String, value, value)
}

/// A field's name, then a string or an integral number.
fn field_and_value(writer: &mut Writer<'_>, index: usize, value: Value<'_>) -> Result<(), Error> {
    if index == 0 || value.as_str().is_some() {
        return text(writer, value);
    }
    match value.as_number() {
        Some(Number::Text(text)) if !number::is_integral(text) => {
            Err(Error::new("expected a whole number"))
        }
        Some(_) => writer.write(&Type::Integer, value, value),
        None => Err(Error::new(format!(
            "expected a string or a number, found {}",
            value.kind()
        ))),
    }
}
