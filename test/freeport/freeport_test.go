package freeport

import (
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// TestMain: with ASK in the environment this is another process that asks for ports.
func TestMain(m *testing.M) {
	if n, err := strconv.Atoi(os.Getenv("ASK")); err == nil {
		for range n {
			address, err := Find()
			if err != nil {
				panic(err)
			}
			os.Stdout.WriteString(address + "\n")
		}
		// It keeps them until it is told to end.
		_, _ = os.Stdin.Read(make([]byte, 1))
		return
	}
	os.Exit(m.Run())
}

// Two processes ask for so many ports that by chance some would be the same.
func TestNoAddressIsGivenTwice(t *testing.T) {
	const each = 400
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), "ASK="+strconv.Itoa(each))
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = other.Wait() })
	given := map[string]bool{}
	take := func(address string) {
		if given[address] {
			t.Errorf("%s was given twice", address)
		}
		given[address] = true
	}
	for range each {
		take(Address(t))
	}
	var text strings.Builder
	for b := make([]byte, 4096); strings.Count(text.String(), "\n") < each; {
		n, err := out.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(b[:n])
	}
	for address := range strings.Lines(text.String()) {
		take(strings.TrimSpace(address))
	}
}

// What is taken for an outgoing connection is not given.
func TestAddressesLieBelowThePortsOfOutgoingConnections(t *testing.T) {
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Skip("this system does not tell its range: ", err)
	}
	from, err := strconv.Atoi(strings.Fields(string(text))[0])
	if err != nil {
		t.Fatal(err)
	}
	if from < lowest+count {
		t.Errorf("outgoing connections begin at port %d, want at %d at least", from, lowest+count)
	}
	// A server comes back to its address.
	address := Address(t)
	for range 2 {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}
