package e2e

import (
	"context"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/quorate/quorate/test/load"
)

// Rates of a load, in requests per second: gaps of half a second and more are
// looked for, and half a dozen clusters share two processors.
const (
	writeRate   = 30
	contendRate = 20
)

// startLoad writes to the cluster through all its members, as they come and go,
// until the end of the node that asked.
func (c cluster) startLoad(ctx context.Context, changes ...func(*load.Config)) *load.Load {
	GinkgoHelper()
	config, err := c.bed().Load(ctx)
	Expect(err).NotTo(HaveOccurred())
	config.WriteRate, config.ContendRate = writeRate, contendRate
	for _, change := range changes {
		change(&config)
	}
	l, err := load.Start(ctx, config)
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(l.Abort)
	return l
}

// holds ends a load: the complete history must be linearizable, and every write
// that was acknowledged must be there, as each member sees it.
func holds(ctx context.Context, l *load.Load) {
	GinkgoHelper()
	report, err := l.Stop(ctx)
	AddReportEntry("load", report.String())
	Expect(err).NotTo(HaveOccurred())
}
