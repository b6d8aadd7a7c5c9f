package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// auditPolicy logs each request of the operator once, when it is answered.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: Metadata
  users: ["` + operatorUser + `"]
- level: None
`

// audit is the API server's own record of what the operator asked.
type audit struct{ log string }

// calls of the operator.
type calls struct {
	reads, writes int
	// written says what, if there is little of it.
	written []string
}

// since counts the requests that arrived after a time. The operator's lease is
// left out: renewing it is the price of two replicas, not of a cluster.
func (a *audit) since(from time.Time) (calls, error) {
	file, err := os.Open(a.log)
	if err != nil {
		return calls{}, fmt.Errorf("opening the audit log: %w", err)
	}
	defer file.Close()
	var found calls
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return calls{}, fmt.Errorf("reading the audit log: %w", err)
		}
		if err := found.add(line, from); err != nil {
			return calls{}, err
		}
	}
}

func (c *calls) add(line []byte, from time.Time) error {
	var event struct {
		Verb       string
		RequestURI string
		ObjectRef  struct{ Resource string }
		// ReceivedAt is RFC 3339 with microseconds.
		ReceivedAt time.Time `json:"requestReceivedTimestamp"`
	}
	if err := json.Unmarshal(line, &event); err != nil {
		return fmt.Errorf("parsing the audit log: %w", err)
	}
	if event.ReceivedAt.Before(from) || event.ObjectRef.Resource == "leases" {
		return nil
	}
	switch event.Verb {
	case "get", "list", "watch":
		c.reads++
	default:
		c.writes++
		if len(c.written) < 20 {
			c.written = append(c.written, event.Verb+" "+event.RequestURI)
		}
	}
	return nil
}
