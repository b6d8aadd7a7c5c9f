package clouds

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// STS is Amazon's token service. It gives out keys of a role for the token of a pod.
type STS struct {
	// Role and Token that it knows.
	Role, Token string
	// Key, Secret and Session that it gives out.
	Key, Secret, Session string
}

// NewSTS makes one that knows a role.
func NewSTS(role string) *STS {
	return &STS{Role: role, Token: "pod." + rand.Text(), Key: "ASIA" + rand.Text(), Secret: rand.Text(), Session: "session." + rand.Text()}
}

// ServeHTTP answers AssumeRoleWithWebIdentity.
func (s *STS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/xml")
	switch {
	case r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("WebIdentityToken") != s.Token:
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>No OpenIDConnect provider found</Message></Error></ErrorResponse>`)
	case r.FormValue("RoleArn") != s.Role:
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprint(w, `<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform sts:AssumeRoleWithWebIdentity</Message></Error></ErrorResponse>`)
	default:
		fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials>`+
			`<AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken><Expiration>%s</Expiration>`+
			`</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`,
			s.Key, s.Secret, s.Session, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}
}

// Metadata is the server that a node of Google's has for its pods. It gives out tokens of the
// account; one with a status other than 200 answers that to whoever asks for one.
func (g *GCS) Metadata(status int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		switch {
		case r.Header.Get("Metadata-Flavor") != "Google":
			w.WriteHeader(http.StatusForbidden)
		case !strings.HasSuffix(r.URL.Path, "/instance/service-accounts/default/token"):
			fmt.Fprint(w, "test")
		case status != http.StatusOK:
			w.WriteHeader(status)
			fmt.Fprint(w, "Unable to generate access token; IAM returned: Permission 'iam.serviceAccounts.getAccessToken' denied")
		default:
			g.giveToken(w)
		}
	})
}

// EntraHost is where Microsoft gives out tokens.
const EntraHost = "login.microsoftonline.com"

// Entra gives out tokens of a client for what vouches for the pod.
type Entra struct {
	Tenant, Client, Assertion string

	store *Azure
}

// Entra gives out the tokens that the store takes.
func (a *Azure) Entra() *Entra {
	return &Entra{Tenant: "11111111-2222-3333-4444-555555555555", Client: "66666666-7777-8888-9999-000000000000", Assertion: "pod." + rand.Text(), store: a}
}

// ServeHTTP serves EntraHost.
func (e *Entra) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	tenant := "https://" + EntraHost + "/" + e.Tenant
	var content any
	switch {
	case strings.HasSuffix(r.URL.Path, "/discovery/instance"):
		content = map[string]any{
			"tenant_discovery_endpoint": tenant + "/v2.0/.well-known/openid-configuration",
			"metadata":                  []any{map[string]any{"preferred_network": EntraHost, "preferred_cache": EntraHost, "aliases": []string{EntraHost}}},
		}
	case strings.HasSuffix(r.URL.Path, "/openid-configuration"):
		content = map[string]any{"issuer": tenant + "/v2.0", "authorization_endpoint": tenant + "/oauth2/v2.0/authorize", "token_endpoint": tenant + "/oauth2/v2.0/token"}
	case r.FormValue("client_id") != e.Client || r.FormValue("client_assertion") != e.Assertion || r.FormValue("scope") == "":
		w.WriteHeader(http.StatusUnauthorized)
		content = map[string]any{
			"error":             "invalid_client",
			"error_description": "AADSTS700213: No matching federated identity record found for presented assertion subject.\r\nTrace ID: 0",
		}
	default:
		content = map[string]any{"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": e.store.token}
	}
	_ = json.NewEncoder(w).Encode(content) // whoever asked is gone if it fails
}
