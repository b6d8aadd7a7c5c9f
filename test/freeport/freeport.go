// Package freeport finds loopback ports for servers that are started, stopped and started
// again at the same address.
//
// A port that the kernel gave (":0") is of no use for that: it lies in the range from which
// the kernel also takes the ports of outgoing connections, so that while its server is down
// any connection of any process may take it, even one that dials that very port, which TCP
// then connects with itself.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// Ports lie below the range of outgoing connections (32768 to 60999 unless the machine's
// owner chose another, net.ipv4.ip_local_port_range), and above those of known services.
const (
	lowest = 20000
	count  = 10000
	tries  = 1000
)

var (
	mu     sync.Mutex
	claims = map[int]net.Listener{}
)

// Address is a loopback address, host and port, at which nobody listens, and that no other
// call gives, in this process or in another that runs beside it, until this process ends.
func Address(t testing.TB) string {
	t.Helper()
	address, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// Find is Address for what is not a test.
func Find() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	for range tries {
		port := lowest + rand.IntN(count)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		if claim(port) && unused(address) {
			return address, nil
		}
	}
	return "", errors.New("no free port in 1000 tries")
}

// claim the port against other processes that ask this package: a socket in the abstract
// namespace has one owner, and goes with its process, however that ends.
func claim(port int) bool {
	if claims[port] != nil {
		return false
	}
	l, err := net.Listen("unix", fmt.Sprintf("@quorate/freeport/%d", port))
	if err != nil {
		return false
	}
	claims[port] = l
	return true
}

func unused(address string) bool {
	l, err := net.Listen("tcp", address)
	return err == nil && l.Close() == nil
}
