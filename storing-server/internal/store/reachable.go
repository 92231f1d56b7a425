package store

// Reachable reports whether this process has a connection to where the rows
// are kept. Without one, changes are refused and rows are as old as that; one
// that is cut is noticed within seconds, and made again by itself.
func (s *Store) Reachable() bool { return s.engine.connected() }
