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

// Entries of the report: what the operator's pods looked like, what the members of the clusters
// complained of, and how busy the machine was.
const (
	operatorEntry = "the operator's pods"
	membersEntry  = "what the members complained of"
	machineEntry  = "the machine"
)

// What failed is told once more, in a file that make shows last: whoever sees only the
// end of a long run learns what was wrong, and not only where.
var _ = ReportAfterSuite("failures", func(report Report) {
	path := filepath.Join(repository(), ".cluster", "e2e-failures.txt")
	Expect(os.WriteFile(path, []byte(failures(report.SpecReports)), 0o600)).To(Succeed())
})

// failures are the specs that failed, in the order in which they began, with the first
// lines of why, what the operator's pods looked like, what the members complained of, and how busy
// the machine was.
func failures(reports types.SpecReports) string {
	var out strings.Builder
	for _, r := range reports.WithState(types.SpecStateFailureStates) {
		fmt.Fprintf(&out, "%s %s (%s) %s\n", r.StartTime.UTC().Format("15:04:05"), r.State, r.FailureLocation(), r.FullText())
		for _, line := range firstLines(r.Failure.Message, 6) {
			fmt.Fprintf(&out, "    %.200s\n", line)
		}
		for _, e := range r.ReportEntries {
			for _, line := range gist(e) {
				fmt.Fprintf(&out, "    %s: %.300s\n", e.Name, line)
			}
		}
	}
	return out.String()
}

// gist are the lines of an entry that say the most.
func gist(e types.ReportEntry) []string {
	switch text := strings.TrimSpace(e.StringRepresentation()); e.Name {
	case operatorEntry:
		return firstLines(text, 3)
	case membersEntry:
		return strings.Split(lastLines(text, 12), "\n")
	case machineEntry:
		return firstLines(text, 4)
	default:
		return nil
	}
}

func firstLines(text string, n int) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[:min(n, len(lines))]
}
