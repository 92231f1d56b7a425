package links

import "flexphone/registry-client/wire"

// A browser has no key and no session: in links it is a MAC (wire.IsBrowser), and servers
// of a cluster find the one that it is at by a key that stands for that.

// browserKey begins such keys; no hash of a key does.
const browserKey = "a browser, which has no key"

// BrowserKey is the key that stands for a browser.
func BrowserKey(m wire.MAC) (key wire.Fingerprint) {
	copy(key[:len(key)-len(m)], browserKey)
	copy(key[len(key)-len(m):], m[:])
	return key
}

// BrowserOf returns the browser that a key stands for; ok is false when it is a phone's.
func BrowserOf(key wire.Fingerprint) (m wire.MAC, ok bool) {
	copy(m[:], key[len(key)-len(m):])
	return m, BrowserKey(m) == key && wire.IsBrowser(m)
}
