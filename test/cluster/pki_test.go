package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"regexp"
	"slices"
	"testing"
)

func TestCertificatesAreWhatTheirHoldersNeed(t *testing.T) {
	l := newLayout(t)
	if err := writePKI(l); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(l.pki("ca.crt"))
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatalf("reading the authority: %v", err)
	}
	for _, id := range identities() {
		t.Run(id.name, func(t *testing.T) {
			pair, err := tls.LoadX509KeyPair(l.pki(id.name+".crt"), l.pki(id.name+".key"))
			if err != nil {
				t.Fatal(err)
			}
			usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
			if len(id.ips) > 0 {
				usages = append(usages, x509.ExtKeyUsageServerAuth)
			}
			for _, usage := range usages {
				if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
					t.Errorf("not good for %v: %v", usage, err)
				}
			}
			if pair.Leaf.Subject.CommonName != id.user || !slices.Equal(pair.Leaf.Subject.Organization, id.groups) {
				t.Errorf("it is the certificate of %s", pair.Leaf.Subject)
			}
			for _, host := range slices.Concat(id.ips, id.dns) {
				if err := pair.Leaf.VerifyHostname(host); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestTheAuthorityOutlivesASecondCall(t *testing.T) {
	l := newLayout(t)
	read := func() string {
		if err := writePKI(l); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(l.pki("ca.crt"))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if first := read(); first != read() {
		t.Error("the second call made another authority: every client of the running cluster is locked out")
	}
}

func TestAnAuthorityThatWasCutShortIsMadeAgain(t *testing.T) {
	l := newLayout(t)
	write(t, l.pki("ca.crt"), "half a certif")
	if err := writePKI(l); err != nil {
		t.Fatal(err)
	}
	if _, err := tls.LoadX509KeyPair(l.pki("ca.crt"), l.pki("ca.key")); err != nil {
		t.Error(err)
	}
}

func TestKubeconfigsCarryTheirCertificates(t *testing.T) {
	l := newLayout(t)
	if err := writePKI(l); err != nil {
		t.Fatal(err)
	}
	if err := writeKubeconfigs(l); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(l.kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	for key, file := range map[string]string{
		"certificate-authority-data": "ca.crt", "client-certificate-data": "admin.crt", "client-key-data": "admin.key",
	} {
		match := regexp.MustCompile(key + `: (\S+)`).FindSubmatch(config)
		if match == nil {
			t.Fatalf("no %s in the kubeconfig", key)
		}
		have, err := base64.StdEncoding.DecodeString(string(match[1]))
		want, _ := os.ReadFile(l.pki(file))
		if err != nil || string(have) != string(want) {
			t.Errorf("%s is not %s (%v)", key, file, err)
		}
	}
	if !regexp.MustCompile(`server: https://172\.30\.0\.1:6443\n`).Match(config) {
		t.Errorf("no server in the kubeconfig")
	}
	if info, err := os.Stat(l.kubeconfig()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the administrator's key is open to others: %v, %v", info.Mode(), err)
	}
}
