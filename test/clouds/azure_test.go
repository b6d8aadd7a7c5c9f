package clouds

import (
	"net/http/httptest"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
)

// The account's key is asked for, and is what Azure's own client signs with.
func TestOnlyTheAccountsKeyIsTaken(t *testing.T) {
	server := httptest.NewServer(NewAzure())
	t.Cleanup(server.Close)
	url := server.URL + "/" + AzureAccount + "/backups"
	anonymous, err := container.NewClientWithNoCredential(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anonymous.Create(t.Context(), nil); !bloberror.HasCode(err, bloberror.NoAuthenticationInformation) {
		t.Errorf("without a key: %v", err)
	}
	for key, code := range map[string]bloberror.Code{AzureKey: "", "d3Jvbmc=": bloberror.AuthenticationFailed} {
		credential, err := container.NewSharedKeyCredential(AzureAccount, key)
		if err != nil {
			t.Fatal(err)
		}
		client, err := container.NewClientWithSharedKeyCredential(url, credential, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Create(t.Context(), nil)
		if (err == nil) != (code == "") || code != "" && !bloberror.HasCode(err, code) {
			t.Errorf("with %s: %v, want %q", key, err, code)
		}
	}
}
