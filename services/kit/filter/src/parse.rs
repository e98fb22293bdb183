//! From tokens to a tree: the part of CEL's grammar that filters need, with CEL's precedence.
//!
//! Sources come from anyone, so nothing here may recurse without a limit: brackets may nest [`MAX_DEPTH`] deep, and what
//! CEL would nest without brackets (`!!!a`, `a.b.c`, `a && b && c`) is a loop and a flat node. The tree is therefore
//! never deeper than the brackets, and walking or dropping it is as safe as building it.

use rust_decimal::Decimal;

use crate::condition::Op;
use crate::error::{FilterError, quoted};
use crate::lex::{self, Token, TokenKind};
use crate::tree::{Node, Tree};

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

/// How deep brackets may nest in a filter. A level costs up to 6 kB of stack in an unoptimised build.
pub const MAX_DEPTH: usize = 24;

/// How long a filter may be, in bytes.
pub const MAX_SOURCE_BYTES: usize = 4096;

/// The words of the language, which are no names.
const KEYWORDS: [&str; 4] = ["in", "true", "false", "null"];

/// CEL's reserved words: no expression may begin with one, so that other implementations can read our filters.
const RESERVED: &str = "as break const continue else for function if import let loop namespace package return var \
                        void while";

/// Parses a filter; `None` if it is blank.
pub(crate) fn parse(source: &str) -> Result<Option<Node>, FilterError> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!("a filter may be {MAX_SOURCE_BYTES} bytes long; this one has {}", source.len());
        return Err(FilterError::at(0, message));
    }
    let mut parser = Parser { tokens: lex::tokens(source)?.into_iter().peekable(), depth: 0 };
    if *parser.peek() == TokenKind::End {
        return Ok(None);
    }
    let node = parser.condition()?;
    match parser.take() {
        Token { kind: TokenKind::End, .. } => Ok(Some(node)),
        token => Err(left_over(&token)),
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

impl Parser {
    fn peek(&mut self) -> &TokenKind {
        self.tokens.peek().map_or(&TokenKind::End, |token| &token.kind)
    }

    fn peeks(&mut self, symbol: &str) -> bool {
        matches!(self.peek(), TokenKind::Symbol(found) if *found == symbol)
    }

    fn position(&mut self) -> usize {
        self.tokens.peek().map_or(0, |token| token.at)
    }

    fn take(&mut self) -> Token {
        self.tokens.next().unwrap_or(Token { at: 0, kind: TokenKind::End })
    }

    /// Takes the symbol if it is next.
    fn takes(&mut self, symbol: &str) -> bool {
        let next = self.peeks(symbol);
        if next {
            self.take();
        }
        next
    }

    fn expect(&mut self, symbol: &str) -> Result<(), FilterError> {
        if self.takes(symbol) { Ok(()) } else { Err(missing_bracket(symbol, &self.take())) }
    }

    /// Enters the bracket at `at`. Errors end the parse, so only a success has to leave again.
    fn enter(&mut self, at: usize) -> Result<(), FilterError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(too_deep(at)) } else { Ok(()) }
    }

    fn leave(&mut self) {
        self.depth -= 1;
    }

    /// `a && b || c`: one loop and not a function for each operator, which would cost stack at every bracket.
    fn condition(&mut self) -> Result<Node, FilterError> {
        let (mut any, mut all) = (Vec::new(), Vec::new());
        loop {
            all.push(self.relation()?);
            if self.takes("&&") {
                continue;
            }
            any.push(joined(std::mem::take(&mut all), Tree::And)?);
            if !self.takes("||") {
                return joined(any, Tree::Or);
            }
        }
    }

    /// `a`, `a < b`, `a in b`
    fn relation(&mut self) -> Result<Node, FilterError> {
        let left = self.operand()?;
        let Some(relation) = relation(self.peek()) else {
            return Ok(left);
        };
        let at = self.take().at;
        if matches!(left.tree, Tree::Not(_)) {
            return Err(FilterError::at(left.at, "`!` comes before comparisons; write !(a == b), or a != b"));
        }
        let (left, right) = (Box::new(left), Box::new(self.operand()?));
        if crate::parse::relation(self.peek()).is_some() {
            return Err(FilterError::at(self.position(), "comparisons do not chain; write a < b && b < c"));
        }
        let tree = match relation {
            Relation::Compare(op) => Tree::Compare { op, left, right },
            Relation::In => Tree::In { item: left, list: right },
        };
        Ok(Node { at, tree })
    }

    /// A value, a name, a call, a list or something in brackets, after any number of `!`. What does not recurse stands
    /// in functions of its own, which keeps the stack that each bracket costs small.
    fn operand(&mut self) -> Result<Node, FilterError> {
        let nots = self.nots();
        let Token { at, kind } = self.take();
        let node = match kind {
            TokenKind::Symbol("(") => {
                self.enter(at)?;
                let inner = self.condition()?;
                self.leave();
                self.expect(")")?;
                inner
            }
            TokenKind::Symbol("[") => Node { at, tree: Tree::List(self.items(at, "]")?) },
            TokenKind::Name(word) if !KEYWORDS.contains(&word.as_str()) => {
                let name = self.name(at, word)?;
                if self.peeks("(") { self.call(name)? } else { Node { at, tree: Tree::Name(name.whole()) } }
            }
            kind => self.value(at, kind)?,
        };
        Ok(negated(nots, node))
    }

    /// Counts the `!` and remembers where they begin.
    fn nots(&mut self) -> (usize, usize) {
        let at = self.position();
        let mut count = 0;
        while self.takes("!") {
            count += 1;
        }
        (at, count)
    }

    fn value(&mut self, at: usize, kind: TokenKind) -> Result<Node, FilterError> {
        let tree = match kind {
            TokenKind::Text(text) => Tree::Text(text),
            TokenKind::Number(text) => Tree::Number(decimal(at, &text)?),
            TokenKind::Symbol("-") => match self.take().kind {
                TokenKind::Number(text) => Tree::Number(-decimal(at, &text)?),
                _ => {
                    return Err(FilterError::at(
                        at,
                        "`-` stands only before a number; filters do not calculate",
                    ));
                }
            },
            TokenKind::Name(word) => match word.as_str() {
                "true" => Tree::Boolean(true),
                "false" => Tree::Boolean(false),
                "null" => Tree::Null,
                _ => return Err(missing_operand(at, &TokenKind::Name(word))),
            },
            kind => return Err(missing_operand(at, &kind)),
        };
        Ok(Node { at, tree })
    }

    /// `a`, `a.b.c`, from its first part on.
    fn name(&mut self, at: usize, first: String) -> Result<Path, FilterError> {
        if RESERVED.split(' ').any(|reserved| reserved == first) {
            return Err(FilterError::at(at, format!("`{first}` is a reserved word")));
        }
        let mut path = Path { at, before: None, last_at: at, last: first };
        while self.takes(".") {
            match self.take() {
                Token { at: last_at, kind: TokenKind::Name(last) } if !KEYWORDS.contains(&last.as_str()) => {
                    path = Path { at, before: Some(path.whole()), last_at, last };
                }
                Token { at, kind } => {
                    let message = format!("a name is missing after `.`, before {}", kind.shown());
                    return Err(FilterError::at(at, message));
                }
            }
        }
        Ok(path)
    }

    /// `f(…)`, `a.b.f(…)`, from the bracket on.
    fn call(&mut self, name: Path) -> Result<Node, FilterError> {
        self.take();
        let arguments = self.items(name.last_at, ")")?;
        let receiver = name.before.map(|path| Box::new(Node { at: name.at, tree: Tree::Name(path) }));
        Ok(Node { at: name.last_at, tree: Tree::Call { receiver, function: name.last, arguments } })
    }

    /// `a, b]`: the items of a list or a call whose bracket is open, and the bracket that ends them.
    fn items(&mut self, at: usize, end: &str) -> Result<Vec<Node>, FilterError> {
        self.enter(at)?;
        let mut items = Vec::new();
        while !self.takes(end) {
            items.push(self.condition()?);
            if !self.takes(",") {
                self.expect(end)?;
                break;
            }
            // CEL allows a comma before the end of a list, but not of arguments.
            if end == ")" && self.peeks(end) {
                return Err(FilterError::at(self.position(), "a value is missing before `)`"));
            }
        }
        self.leave();
        Ok(items)
    }
}

/// The parts joined by an operator, or the only part.
fn joined(mut parts: Vec<Node>, join: fn(Vec<Node>) -> Tree) -> Result<Node, FilterError> {
    match parts.as_slice() {
        [_] | [] => parts.pop().ok_or_else(|| FilterError::at(0, "a condition is missing")),
        [first, ..] => Ok(Node { at: first.at, tree: join(parts) }),
    }
}

/// `!` before a node, or `!!`: of any more, pairs undo each other, since `!` is two-valued. One pair stays, so that the
/// checker still asks whether the node is a condition.
fn negated((at, count): (usize, usize), node: Node) -> Node {
    let not = |node| Node { at, tree: Tree::Not(Box::new(node)) };
    match count {
        0 => node,
        _ if count.is_multiple_of(2) => not(not(node)),
        _ => not(node),
    }
}

/// A name with its last part apart, which is a function's name if a bracket follows.
struct Path {
    at: usize,
    before: Option<String>,
    last_at: usize,
    last: String,
}

impl Path {
    fn whole(self) -> String {
        match self.before {
            Some(before) => before + "." + &self.last,
            None => self.last,
        }
    }
}

enum Relation {
    Compare(Op),
    In,
}

fn relation(token: &TokenKind) -> Option<Relation> {
    match token {
        TokenKind::Symbol(symbol) => Op::from_symbol(symbol).map(Relation::Compare),
        TokenKind::Name(word) if word == "in" => Some(Relation::In),
        _ => None,
    }
}

fn decimal(at: usize, text: &str) -> Result<Decimal, FilterError> {
    crate::decimal::exact(text).map_err(|message| FilterError::at(at, message))
}

fn too_deep(at: usize) -> FilterError {
    FilterError::at(at, format!("brackets nest too deeply; at most {MAX_DEPTH} levels are read"))
}

fn missing_operand(at: usize, found: &TokenKind) -> FilterError {
    FilterError::at(at, format!("a field or a value is missing before {}", found.shown()))
}

fn missing_bracket(symbol: &str, found: &Token) -> FilterError {
    match found.kind {
        TokenKind::Symbol(")" | "]" | ",") | TokenKind::End => {
            FilterError::at(found.at, format!("`{symbol}` is missing before {}", found.kind.shown()))
        }
        _ => left_over(found),
    }
}

/// Says what may stand where this token stands after a complete condition or value.
fn left_over(token: &Token) -> FilterError {
    let message = match &token.kind {
        TokenKind::Symbol(symbol @ (")" | "]")) => format!("`{symbol}` closes nothing"),
        TokenKind::Symbol("-") => "`-`: filters do not calculate; write the value itself".into(),
        TokenKind::Symbol("[") => "`[`: nothing is looked up by index; write attributes.key".into(),
        TokenKind::Symbol(".") => "`.` follows only a name".into(),
        TokenKind::Name(word) => match word.to_ascii_lowercase().as_str() {
            "and" => format!("`{word}` is written `&&`"),
            "or" => format!("`{word}` is written `||`"),
            "not" => format!("`{word}` is written `!` before a condition"),
            "like" => format!("`{word}` is written .startsWith(\"…\"), .endsWith(\"…\") or .contains(\"…\")"),
            "is" => format!("`{word}` is written `==`, or has(field) for \"is not null\""),
            "in" => "`in` is written in small letters".into(),
            _ => format!("{} is not expected here; conditions are joined by && or ||", quoted(word)),
        },
        kind => format!("{} is not expected here; conditions are joined by && or ||", kind.shown()),
    };
    FilterError::at(token.at, message)
}
