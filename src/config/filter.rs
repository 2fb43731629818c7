//! Field table of filter rules: predicates over jobs, and the action for jobs that match.
//!
//! Source: `Ganeti.Objects` (`FilterRule`, `FilterPredicate`, `FilterAction`) and
//! `Ganeti.Query.Language` (`Filter`).

use super::error::{Problem, quoted};
use super::number;
use super::schema::{FieldType, Place, Record, expected};
use super::value::{Number, Value};
use super::writer::{Writer, elements, int, text};

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
fn job_id(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    let id = match value.as_str() {
        Some(text) => number::read_int(text)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(id, _)| id),
        None => integral(value),
    };
    let id = id
        .filter(|id| *id >= 0)
        .ok_or_else(|| mismatch("expected a job id: a whole number, not negative"))?;
    writer.int(id);
    Ok(())
}

/// Writes a priority: a number that rounds to 0 or more.
fn priority(writer: &mut Writer<'_>, value: Value<'_>, _: &Place<'_>) -> Result<(), Problem> {
    match int(value)? {
        negative @ ..0 => Err(mismatch(&format!(
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
fn action(writer: &mut Writer<'_>, value: Value<'_>, place: &Place<'_>) -> Result<(), Problem> {
    const NAMES: [&str; 4] = ["ACCEPT", "PAUSE", "REJECT", "CONTINUE"];
    if value.as_str().is_some() {
        return writer.word("FilterAction", &NAMES, value, place);
    }
    let (name, limit) = pair(value)?;
    let limit = integral(limit).filter(|limit| name.as_str() == Some("RATE_LIMIT") && *limit > 0);
    let limit =
        limit.ok_or_else(|| mismatch("expected [\"RATE_LIMIT\", n] with a whole number n > 0"))?;
    let list = writer.open(b'[');
    writer.element();
    writer.string("RATE_LIMIT");
    writer.element();
    writer.int(limit);
    writer.close(list, b']');
    Ok(())
}

/// Writes a predicate, `["jobid" | "opcode" | "reason", expression]`.
fn predicate(writer: &mut Writer<'_>, value: Value<'_>, place: &Place<'_>) -> Result<(), Problem> {
    let (what, filter) = pair(value)?;
    let list = writer.open(b'[');
    writer.element();
    writer.word(
        "FilterPredicate",
        &["jobid", "opcode", "reason"],
        what,
        place,
    )?;
    writer.element();
    expression(writer, filter)?;
    writer.close(list, b']');
    Ok(())
}

/// The elements of an array of two.
fn pair(value: Value<'_>) -> Result<(Value<'_>, Value<'_>), Problem> {
    let mut elements = elements(value)?;
    match (elements.next(), elements.next(), elements.next()) {
        (Some(first), Some(second), None) => Ok((first, second)),
        _ => Err(mismatch("expected an array of 2")),
    }
}

/// Writes an expression of the query language; `=` and `!=` are normalized as the reference does:
/// `=` prints as `==`, and `!=` as the negation of `==`.
fn expression(writer: &mut Writer<'_>, value: Value<'_>) -> Result<(), Problem> {
    if value.is_null() {
        writer.push("null");
        return Ok(());
    }
    let mut arguments = elements(value)?;
    let operator = arguments.next().and_then(|operator| operator.as_str());
    let operator =
        operator.ok_or_else(|| mismatch("expected an array that starts with an operator"))?;
    let arguments: Vec<Value<'_>> = arguments.collect();
    match (operator, arguments.as_slice()) {
        ("&" | "|", _) | ("!", [_]) => {
            operation(writer, operator, &arguments, |writer, _, argument| {
                expression(writer, argument)
            })
        }
        ("?", [_]) => operation(writer, "?", &arguments, |writer, _, field| {
            write_text(writer, field)
        }),
        ("=" | "==", [_, _]) => operation(writer, "==", &arguments, field_and_value),
        ("<" | ">" | "<=" | ">=" | "=[]", [_, _]) => {
            operation(writer, operator, &arguments, field_and_value)
        }
        ("=~", [_, _]) => operation(writer, "=~", &arguments, |writer, _, argument| {
            write_text(writer, argument)
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
        _ => Err(mismatch(&format!(
            "unknown operator {} with {} arguments",
            quoted(operator),
            arguments.len()
        ))),
    }
}

/// Writes `[operator, argument, ...]`; `write` gets each argument with its index.
fn operation(
    writer: &mut Writer<'_>,
    operator: &str,
    arguments: &[Value<'_>],
    write: impl Fn(&mut Writer<'_>, usize, Value<'_>) -> Result<(), Problem>,
) -> Result<(), Problem> {
    let list = writer.open(b'[');
    writer.element();
    writer.string(operator);
    for (index, argument) in arguments.iter().enumerate() {
        writer.element();
        write(writer, index, *argument)?;
    }
    writer.close(list, b']');
    Ok(())
}

fn mismatch(what: &str) -> Problem {
    Problem::Mismatch(what.to_owned())
}

fn write_text(writer: &mut Writer<'_>, value: Value<'_>) -> Result<(), Problem> {
    writer.string(&text(value)?);
    Ok(())
}

/// Writes the arguments of a comparison: a field name, then a string or an integral number.
fn field_and_value(writer: &mut Writer<'_>, index: usize, value: Value<'_>) -> Result<(), Problem> {
    if index == 0 || value.as_str().is_some() {
        return write_text(writer, value);
    }
    match value.as_number() {
        Some(Number::Text(text)) if !number::is_integral(text) => {
            Err(mismatch("expected a whole number"))
        }
        Some(_) => writer.number(value, number::integer),
        None => Err(mismatch(&format!(
            "expected a string or a number, found {}",
            value.kind()
        ))),
    }
}
