// Waits until it is told to end: what holds the namespaces of a pod, and what runs in the
// pods of tests, for which anything does that runs.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGINT, syscall.SIGTERM)
	<-end
}
