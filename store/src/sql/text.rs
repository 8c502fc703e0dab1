//! From the SQL that the store's statements are written in to PostgreSQL's.
//!
//! Statements keep to what both databases know. What is left differs in form
//! only: parameters are `?1` or `?` there and `$1` here, SQLite is told which
//! index to take, and its `LIKE` does not tell small letters from capitals.

/// The same statement for PostgreSQL.
pub(super) fn of_postgres(sql: &str) -> String {
    let mut text = String::with_capacity(sql.len());
    let mut rest = sql;
    let mut next_parameter = 1;
    let mut in_string = false;
    while let Some(letter) = rest.chars().next() {
        if letter == '\'' {
            in_string = !in_string;
        } else if !in_string {
            if letter == '?' {
                let digits = rest[1..].bytes().take_while(u8::is_ascii_digit).count();
                text.push('$');
                if digits == 0 {
                    text.push_str(&next_parameter.to_string());
                    next_parameter += 1;
                } else {
                    text.push_str(&rest[1..=digits]);
                }
                rest = &rest[1 + digits..];
                continue;
            }
            if let Some(behind) = rest.strip_prefix("INDEXED BY ") {
                let name =
                    behind.bytes().take_while(|byte| !byte.is_ascii_whitespace() && *byte != b')');
                rest = &behind[name.count()..];
                continue;
            }
            if let Some(behind) = rest.strip_prefix(" LIKE ") {
                text.push_str(" ILIKE ");
                rest = behind;
                continue;
            }
        }
        text.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::of_postgres;

    #[test]
    fn only_parameters_indexes_and_like_differ() {
        for (sql, expected) in [
            (
                "SELECT a FROM t WHERE b = ?1 AND c = ?12",
                "SELECT a FROM t WHERE b = $1 AND c = $12",
            ),
            ("a = ? AND b IN (?, ?)", "a = $1 AND b IN ($2, $3)"),
            ("FROM t INDEXED BY t_a WHERE a = ?1", "FROM t  WHERE a = $1"),
            ("(SELECT 1 FROM t INDEXED BY t_a)", "(SELECT 1 FROM t )"),
            (r"a LIKE ? ESCAPE '\'", r"a ILIKE $1 ESCAPE '\'"),
            ("a = 'why? LIKE this' AND b = ?", "a = 'why? LIKE this' AND b = $1"),
        ] {
            assert_eq!(of_postgres(sql), expected);
        }
    }
}
