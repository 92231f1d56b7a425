package main

import (
	"fmt"
	"net"
	"os"
)

// tellManager tells systemd about this process, when it was started by it as a
// service of the type notify; see sd_notify(3).
func tellManager(state string) error {
	at := os.Getenv("NOTIFY_SOCKET")
	if at == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", at)
	if err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell systemd: %w", err)
	}
	return nil
}
