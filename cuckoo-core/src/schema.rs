//! How the OpenAPI document describes text whose types come from elsewhere: name them as `#[schema(value_type = ...)]`.

use std::borrow::Cow;

use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

macro_rules! text {
    ($(#[doc = $doc:literal])* $name:ident, $pattern:literal, $example:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub enum $name {}

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let description = concat!($($doc, "\n"),*).trim();
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .description(Some(description))
                    .pattern(Some($pattern))
                    .examples([$example])
                    .into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    };
}

/// Raw bytes.
#[derive(Debug)]
pub enum Payload {}

impl PartialSchema for Payload {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
            .into()
    }
}

impl ToSchema for Payload {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Payload")
    }
}

text!(
    /// 32 bytes, such as a hash: 0x and 64 hexadecimal digits.
    Word,
    "^0x[0-9a-fA-F]{64}$",
    "0x5c70f2a3a2b1c6d7e8f90123456789abcdef0123456789abcdef0123456789ab"
);
text!(
    /// An address: 0x and 40 hexadecimal digits.
    Address,
    "^0x[0-9a-fA-F]{40}$",
    "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266"
);
text!(
    /// An amount of CAI in wei: decimal digits, or 0x and hexadecimal ones. Answers hold the latter.
    Amount,
    "^(0x[0-9a-fA-F]{1,64}|[0-9]{1,77})$",
    "1000000000000000000"
);
