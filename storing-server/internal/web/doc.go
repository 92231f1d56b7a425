// Package web is the operator's view over HTTP: pages for a browser, a JSON
// API for programs, and what monitors ask.
//
// It knows pages, forms, logins and API tokens. It refuses to know how a row
// is kept (package store), and to act for anybody who has not shown the
// operator's password or a token.
//
// # Why
//
// Pages are rendered here, from templates, and every one of them works without
// JavaScript, but for the two on which a browser calls and is called
// (assets/talk.js): what is clicked is a link or a form. The few lines of script in
// assets/live.js put newer rows in place of those that are shown. They are told
// by server-sent events, and are sent the same HTML that the page was made of;
// programs that accept events are sent the JSON that they would get by asking.
//
// A login lasts in a cookie that no script can read and that no other site can
// make a browser send (SameSite=Strict). Each form carries a token of its
// session besides, and requests of other origins are refused, so that three
// things would have to fail together.
//
// By default the server proves itself to browsers with a certificate that it
// has signed itself. It is not the one that phones pin, since browsers know no
// Ed25519.
package web
