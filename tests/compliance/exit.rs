//! How commands end: exit codes, signals.

use crate::both::{case, host};

case!(codes, |server| {
    let ann = host().user();
    for code in [0, 1, 2, 42, 127, 128, 254, 255] {
        let done = server.says(&ann, &format!("exit {code}"));
        assert_eq!(done.code, code, "{done:#?}");
    }
});
