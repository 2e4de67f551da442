//! Tells what each module file given is, one JSON object or one reason per line.

use std::process::ExitCode;

use livepatch_module::{MAX_MODULE_BYTES, decompress, inspect};

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        match answer(&path) {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

fn answer(path: &str) -> Result<String, String> {
    let packed = std::fs::read(path).map_err(|error| error.to_string())?;
    let bytes =
        decompress(&packed, MAX_MODULE_BYTES).map_err(|error| format!("{}: {error}: {error:?}", error.reason()))?;
    let inspection = inspect(&bytes).map_err(|error| format!("{}: {error}", error.reason()))?;
    serde_json::to_string(&inspection).map_err(|error| error.to_string())
}
