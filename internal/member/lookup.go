package member

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// ReadAnnotation is one annotation in the downward-API file at path; empty if there is
// none of that key. A file that is not whole is an error, never an absence.
func ReadAnnotation(path, key string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading annotations: %w", err)
	}
	found := ""
	for line := range bytes.Lines(content) {
		text := strings.TrimSuffix(string(line), "\n")
		if text == "" {
			continue
		}
		name, value, err := parseAnnotation(text)
		if err != nil {
			return "", fmt.Errorf("parsing annotations: %w", err)
		}
		if name == key {
			found = value
		}
	}
	return found, nil
}
