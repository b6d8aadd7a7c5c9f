// Package clouds serves what Google Cloud Storage and Azure Blob Storage serve to
// backups, in the test's own process: on the loopback, with credentials that are
// checked, and without a charge.
package clouds
