mod common;
mod reload;
