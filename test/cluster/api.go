package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// client speaks to the API server as the administrator. The few requests made
// here do not warrant client-go, which takes a minute to compile.
type client struct {
	http *http.Client
}

func newClient(l layout) (*client, error) {
	certificate, err := tls.LoadX509KeyPair(l.pki("admin.crt"), l.pki("admin.key"))
	if err != nil {
		return nil, fmt.Errorf("reading the administrator's certificate: %w", err)
	}
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &client{http: &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, RootCAs: pool}},
	}}, nil
}

// do sends one request and decodes the answer into out unless that is nil.
func (c *client) do(ctx context.Context, method, path, contentType string, body []byte, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, apiServer+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, response.Status, bytes.TrimSpace(data))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// apply makes the object at path what object says.
func (c *client) apply(ctx context.Context, path string, object any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	return c.do(ctx, http.MethodPatch, path+"?fieldManager=quorate-test-cluster&force=true", "application/apply-patch+yaml", data, nil)
}

// nodeState is what the API server says of a node.
type nodeState struct {
	name    string
	ready   bool
	version string
}

func (c *client) nodes(ctx context.Context) (map[string]nodeState, error) {
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Spec     struct {
				Taints []struct{ Key, Effect string }
			}
			Status struct {
				Conditions []struct{ Type, Status string }
				NodeInfo   struct{ KubeletVersion string }
			}
		}
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/nodes", "", nil, &list); err != nil {
		return nil, err
	}
	states := map[string]nodeState{}
	for _, item := range list.Items {
		state := nodeState{name: item.Metadata.Name, version: item.Status.NodeInfo.KubeletVersion}
		for _, condition := range item.Status.Conditions {
			if condition.Type == "Ready" {
				state.ready = condition.Status == "True"
			}
		}
		// The taint goes a moment after the condition; until then no pod is scheduled.
		for _, taint := range item.Spec.Taints {
			if taint.Key == "node.kubernetes.io/not-ready" || taint.Key == "node.kubernetes.io/unreachable" {
				state.ready = false
			}
		}
		states[state.name] = state
	}
	return states, nil
}

// probe asks whether a URL answers 200. Certificates are not checked: nothing
// is told or believed but that somebody is there.
func probe(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := probeClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

var probeClient = &http.Client{
	Timeout: 2 * time.Second,
	Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	},
}

// awaitAnswers waits until every address answers: a URL, or a socket as
// unix:///path. It waits for as long as its machine is on, as a service manager
// does.
func awaitAnswers(addresses []string) {
	for _, address := range addresses {
		for answers(address) != nil {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

func answers(address string) error {
	path, isSocket := strings.CutPrefix(address, "unix://")
	if !isSocket {
		return probe(context.Background(), address)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		return fmt.Errorf("connecting to %s: %w", address, err)
	}
	return conn.Close()
}
