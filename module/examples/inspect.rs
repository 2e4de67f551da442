//! Tells what each module file given is, one JSON object or one reason per line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for path in std::env::args().skip(1) {
        let answer = std::fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                let inspection =
                    livepatch_module::inspect(&bytes).map_err(|error| format!("{}: {error}", error.reason()))?;
                serde_json::to_string(&inspection).map_err(|error| error.to_string())
            });
        match answer {
            Ok(json) => println!("{json}"),
            Err(error) => {
                eprintln!("{path}: {error}");
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}
