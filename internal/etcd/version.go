package etcd

import (
	"strconv"
	"strings"
)

// Minor release of a version: 6 for "3.6.16"; zero for what is no version.
func Minor(version string) int {
	parts := strings.Split(version, ".")
	if len(parts) < 2 {
		return 0
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return 0
	}
	return n
}
