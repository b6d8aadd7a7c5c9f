package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"
)

// operatorEntry is the report's entry of what the operator's pods looked like.
const operatorEntry = "the operator's pods"

// What failed is told once more, in a file that make shows last: whoever sees only the
// end of a long run learns what was wrong, and not only where.
var _ = ReportAfterSuite("failures", func(report Report) {
	path := filepath.Join(repository(), ".cluster", "e2e-failures.txt")
	Expect(os.WriteFile(path, []byte(failures(report.SpecReports)), 0o600)).To(Succeed())
})

// failures are the specs that failed, in the order in which they began, with the first
// lines of why and what the operator's pods looked like.
func failures(reports types.SpecReports) string {
	var out strings.Builder
	for _, r := range reports.WithState(types.SpecStateFailureStates) {
		fmt.Fprintf(&out, "%s %s (%s) %s\n", r.StartTime.UTC().Format("15:04:05"), r.State, r.FailureLocation(), r.FullText())
		for _, line := range firstLines(r.Failure.Message, 6) {
			fmt.Fprintf(&out, "    %.200s\n", line)
		}
		for _, e := range r.ReportEntries {
			if e.Name != operatorEntry {
				continue
			}
			for _, line := range firstLines(e.StringRepresentation(), 3) {
				fmt.Fprintf(&out, "    operator: %.200s\n", line)
			}
		}
	}
	return out.String()
}

func firstLines(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[:min(n, len(lines))]
}
