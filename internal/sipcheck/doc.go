// Package sipcheck reads SIP messages as they come from the network, before a
// parser that is stricter in form and laxer in meaning sees them.
//
// It knows the syntax of RFC 3261, section 25, and what RFC 4475 wants of an
// element that gets a message that breaks it: Check says with which status a
// request is refused, Answer writes that response, and Tidy writes a message that
// is taken in one plain form: long header names, one value a line, no folding, no
// blanks where none are needed, parameter names in lower case.
//
// It refuses to know dialogs, transactions, bodies, and whether anybody wants the
// call: whoever uses it has a phone or a registrar to run.
//
// # Why before the parser
//
// What a parser drops cannot be answered any more, and the sender repeats it for
// half a minute. And a parser that has to be right about every message from
// everywhere is the one that fails on the first that its author did not think of.
package sipcheck
