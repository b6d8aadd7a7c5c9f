// Command coredns is CoreDNS with the few plugins that the test cluster's
// Corefile names; the full set takes minutes to compile.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"
	_ "github.com/coredns/coredns/plugin/template"
)

func init() {
	// The order in which the plugins see a query; template answers what is left.
	dnsserver.Directives = []string{
		"reload", "bind", "health", "ready", "errors", "cache", "kubernetes", "template",
	}
}

func main() {
	coremain.Run()
}
