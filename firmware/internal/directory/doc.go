// Package directory says who a number is now: whom to call for it, where, and
// which of those who call are believed.
//
// It knows that the storing server's rows are the truth about numbers, keys and
// addresses, that the owner of a row's key is its phone and nobody else is, which
// address of a phone to call, and by which names this phone is meant itself. It
// refuses to know how a row is asked for and what a call is made of: rows come
// from a Server, and a number or a caller goes out as call control names them.
//
// # Why only a key is believed
//
// A row tells of the phone that owns its key, and anybody can say over plain SIP
// that he is 102. So a phone that offers TLS is called with its key pinned, and
// followed to a new address only when the row still holds the key that it has
// proved; a caller is vouched for only with the key of the row whose MAC it gives.
package directory
