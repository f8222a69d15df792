/* Certificates for the tests of TLS, valid for a hundred years: an authority, a node's certificate
 * for "localhost" made by it, another authority and a stranger's certificate made by that one. The
 * keys protect nothing.
 *
 *   openssl ecparam -name prime256v1 -genkey -noout; openssl req -x509 -new -days 36500;
 *   openssl x509 -req -CA … -extfile (subjectAltName=DNS:localhost)
 */
#ifndef TESTS_UNIT_NET_TLS_PEMS_H
#define TESTS_UNIT_NET_TLS_PEMS_H

static UNUSED_OK const char ca_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBejCCASGgAwIBAgIUNNk3ZqSqCzUuzdJVbDpJunpW6ekwCgYIKoZIzj0EAwIw\n"
    "EjEQMA4GA1UEAwwHdGVzdCBjYTAgFw0yNjExMjEwMDUwMDVaGA8yMTI2MTAyODAw\n"
    "NTAwNVowEjEQMA4GA1UEAwwHdGVzdCBjYTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n"
    "A0IABA5qXGT/g9HfUhnHBsLNsZskz9qIwzyxa84Ibwnqb6vNevY/bDpQVHPv+1ta\n"
    "LN2M055qy5zZqu+itIEd7hyavYejUzBRMB0GA1UdDgQWBBSzj2xaEtD0Cn8BJSCt\n"
    "GSn3Dmu1+DAfBgNVHSMEGDAWgBSzj2xaEtD0Cn8BJSCtGSn3Dmu1+DAPBgNVHRMB\n"
    "Af8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCICp0Vf3OqfW7CAjnccFQD+8QIHik\n"
    "eGI6Cd1aKJyTx/GnAiBNQQJNPTqCGY00CTOWsfgh7ft2TF53vPCMLsN7J7Z7zg==\n"
    "-----END CERTIFICATE-----\n";

static UNUSED_OK const char node_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBgTCCASigAwIBAgIULCL7PKW85QZ/DOeyTOIONxR//mUwCgYIKoZIzj0EAwIw\n"
    "EjEQMA4GA1UEAwwHdGVzdCBjYTAgFw0yNjExMjEwMDUwMDVaGA8yMTI2MTAyODAw\n"
    "NTAwNVowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0D\n"
    "AQcDQgAEOwIPyc4/5nbLvkuC2bAAKTFVMm9sjRjX6Z/XFuOo47mo5nL+znAjs3aZ\n"
    "9fy3bAUz72HoCreBEZ3Nv6DyLOBdRqNYMFYwFAYDVR0RBA0wC4IJbG9jYWxob3N0\n"
    "MB0GA1UdDgQWBBSorcFW+Ftn/ydYxgqYkFRiYgkfBzAfBgNVHSMEGDAWgBSzj2xa\n"
    "EtD0Cn8BJSCtGSn3Dmu1+DAKBggqhkjOPQQDAgNHADBEAiBsV71v/YennZgmQjmB\n"
    "ZxX/1DjQdsDjgoSmuZ4EOH1mcAIgHGn1pSOkVzEHv9YUIlIKE6wqK9HFteRjF7S+\n"
    "hZ2g4wY=\n"
    "-----END CERTIFICATE-----\n";

static UNUSED_OK const char node_key[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEINP2ZYj/KOBE5bGh43k9HxFNSspJNzyeBse6lYQVTXcboAoGCCqGSM49\n"
    "AwEHoUQDQgAEOwIPyc4/5nbLvkuC2bAAKTFVMm9sjRjX6Z/XFuOo47mo5nL+znAj\n"
    "s3aZ9fy3bAUz72HoCreBEZ3Nv6DyLOBdRg==\n"
    "-----END EC PRIVATE KEY-----\n";

static UNUSED_OK const char other_ca_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBgTCCASegAwIBAgIUR57Vd6g5CtJlO+X02dSPhZ3lg4gwCgYIKoZIzj0EAwIw\n"
    "FTETMBEGA1UEAwwKdGVzdCBvdGhlcjAgFw0yNjExMjEwMDUwMDVaGA8yMTI2MTAy\n"
    "ODAwNTAwNVowFTETMBEGA1UEAwwKdGVzdCBvdGhlcjBZMBMGByqGSM49AgEGCCqG\n"
    "SM49AwEHA0IABF3IOdhkYgbeAC73Fmh1NsNkLTSLt0ru3QHx63cgYCKWaJhtCIyM\n"
    "+TdjRBqG+ZyjrrE1iFToGrUoaSHFufg+1LOjUzBRMB0GA1UdDgQWBBRuVY96glik\n"
    "/98cswpG2k/F0KE//TAfBgNVHSMEGDAWgBRuVY96glik/98cswpG2k/F0KE//TAP\n"
    "BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIH/Ha95wb9RvGVkeAwgO\n"
    "9WbAGK7QNgkDXIRErfGidA6DAiEAmh6NSIvKaRzzabPhxRVFoBK0/7VNA3i7YjUr\n"
    "wwRWnqU=\n"
    "-----END CERTIFICATE-----\n";

static UNUSED_OK const char stranger_pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBhTCCASugAwIBAgIURPbPdlgeLjOKcji2bR3MSlJlozMwCgYIKoZIzj0EAwIw\n"
    "FTETMBEGA1UEAwwKdGVzdCBvdGhlcjAgFw0yNjExMjEwMDUwMDVaGA8yMTI2MTAy\n"
    "ODAwNTAwNVowFDESMBAGA1UEAwwJbG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZI\n"
    "zj0DAQcDQgAE+otOkHLcooL9ne5Y4tiMywC0az9QZft2hFo4T8gkBh+5oMGCwm6q\n"
    "aCFNdWtOTi8/EYjIX87mcHcHbFgpcaVQpaNYMFYwFAYDVR0RBA0wC4IJbG9jYWxo\n"
    "b3N0MB0GA1UdDgQWBBQcB6B5LnfqWKRh2GAKjUYzmMjDhDAfBgNVHSMEGDAWgBRu\n"
    "VY96glik/98cswpG2k/F0KE//TAKBggqhkjOPQQDAgNIADBFAiBPEGMKEpksFEma\n"
    "37CnJ+DSPROOLMZJ3MrI+N5dWZn90QIhALASTDTo5osCbH0m5J0O3E+1z1FtUs8U\n"
    "0FnR/5XK/lLI\n"
    "-----END CERTIFICATE-----\n";

static UNUSED_OK const char stranger_key[] =
    "-----BEGIN EC PRIVATE KEY-----\n"
    "MHcCAQEEIIMOjSvLoGsy+0tdjg+N6A+OtDpcTlucm4hyqeoFQFlHoAoGCCqGSM49\n"
    "AwEHoUQDQgAE+otOkHLcooL9ne5Y4tiMywC0az9QZft2hFo4T8gkBh+5oMGCwm6q\n"
    "aCFNdWtOTi8/EYjIX87mcHcHbFgpcaVQpQ==\n"
    "-----END EC PRIVATE KEY-----\n";

#endif
