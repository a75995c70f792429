"""Samples: a secret of each form, texts that are none, and pieces of texts that may take long."""

from __future__ import annotations

import base64
import hashlib
import uuid


def _hex(count: int) -> str:
    return hashlib.sha512(b"flowprov").hexdigest()[:count]


def _mixed(count: int, alphabet: str = "Ab3dE6gHiJ7kLm9NoPqR2sTuVwX4yZ") -> str:
    digits = hashlib.sha512(b"mixed").digest() * 4
    return "".join(alphabet[byte % len(alphabet)] for byte in digits[:count])


SHA1, SHA256 = _hex(40), hashlib.sha256(b"x").hexdigest()
UUID = str(uuid.UUID(_hex(32)))

# One of each form, put together here, so that no scanner of repositories takes them for real ones.
SAMPLES = {
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\n" + _mixed(64) + "\n-----END RSA PRIVATE KEY-----",
    "bearer": "Bearer " + _mixed(24),
    "basic": "Basic " + base64.b64encode(b"bob:" + _mixed(12).encode()).decode(),
    "jwt": "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + _mixed(43),
    "aws": "AKIA" + _mixed(16).upper(), "google-api": "AIza" + _mixed(35),
    "google-oauth": "ya29." + _mixed(60), "azure-client": _mixed(3) + "8Q~" + _mixed(34),
    "azure-signature": "sig=" + _mixed(40) + "%3D", "alibaba": "LTAI" + _mixed(20),
    "digitalocean": "dop_v1_" + _hex(64), "hugging-face": "hf_" + _mixed(34, "abcdefgHIJKLmnopqRSTUvwxyz"),
    "openai": "sk-proj-" + _mixed(74) + "T3BlbkFJ" + _mixed(74),
    "anthropic": "sk-ant-api03-" + _mixed(93) + "AA", "groq": "gsk_" + _mixed(52),
    "xai": "xai-" + _mixed(80), "perplexity": "pplx-" + _mixed(48), "replicate": "r8_" + _mixed(37),
    "nvidia": "nvapi-" + _mixed(64), "langsmith": "lsv2_pt_" + _hex(32) + "_" + _hex(10),
    "wandb": "wandb_v1_" + _mixed(77), "pinecone": "pcsk_" + _mixed(70),
    "jina": "jina_" + _hex(32) + _mixed(20), "github": "ghp_" + _mixed(36),
    "github-fine": "github_pat_" + _mixed(22) + "_" + _mixed(59), "gitlab": "glpat-" + _mixed(20),
    "npm": "npm_" + _mixed(36), "pypi": "pypi-AgEIcHlwaS5vcmc" + _mixed(80),
    "rubygems": "rubygems_" + _hex(48), "docker": "dckr_pat_" + _mixed(27),
    "artifactory": "AKCp" + _mixed(69), "vault": "hvs." + _mixed(90),
    "terraform": _mixed(14) + ".atlasv1." + _mixed(67), "databricks": "dapi" + _hex(32) + "-2",
    "slack": "xoxb-" + "123456789012-" + "123456789012-" + _mixed(24),
    "slack-address": "https://hooks.slack.com/services/T0123/B0123/" + _mixed(24),
    "discord": "M" + _mixed(23) + "." + _mixed(6) + "." + _mixed(38),
    "discord-address": "https://discord.com/api/webhooks/123456789/" + _mixed(68),
    "telegram": "123456789:" + _mixed(35),
    "teams-address": "https://x.webhook.office.com/webhookb2/" + _hex(32) + "@" + _hex(32),
    "stripe": "sk_" + "live_" + _mixed(24), "square": "sq0atp-" + _mixed(22), "shopify": "shpat_" + _hex(32),
    "sendgrid": "SG." + _mixed(22) + "." + _mixed(43),
    "sendinblue": "xkeysib-" + _hex(64) + "-" + _mixed(16), "mailchimp": _hex(32) + "-us12",
    "twilio": "SK" + _hex(32), "grafana": "glsa_" + _mixed(32) + "_" + _hex(8),
    "sentry": "sntryu_" + _hex(64), "new-relic": "NRAK-" + _mixed(27).upper(),
    "dynatrace": "dt0c01." + _mixed(24) + "." + _mixed(64), "pulumi": "pul-" + _hex(40),
    "doppler": "dp.pt." + _mixed(43), "postman": "PMAK-" + _hex(24) + "-" + _hex(34),
    "planetscale": "pscale_tkn_" + _mixed(43), "prefect": "pnu_" + _mixed(36), "supabase": "sbp_" + _hex(40),
    "tailscale": "tskey-auth-" + _mixed(20), "linear": "lin_api_" + _mixed(40),
    "notion": "ntn_" + _mixed(46), "atlassian": "ATATT3" + _mixed(186), "heroku": "HRKU-AA" + _mixed(58),
    "fly": "fo1_" + _mixed(43), "openshift": "sha256~" + _mixed(43),
    "age": "AGE-SECRET-KEY-1" + _mixed(58).upper(), "1password": "ops_eyJ" + _mixed(250),
}  # fmt: skip

# Other forms of the same kinds.
FURTHER = {
    "gho_": "gho_" + _mixed(36), "ghu_": "ghu_" + _mixed(36), "ghs_": "ghs_" + _mixed(36),
    "ghr_": "ghr_" + _mixed(36), "api_org_": "api_org_" + _mixed(34), "ASIA": "ASIA" + _mixed(16).upper(),
    "sk-": "sk-" + _mixed(20) + "T3BlbkFJ" + _mixed(20), "sk- hex": "sk-" + _hex(32),
    "sk-or": "sk-or-v1-" + _hex(64), "sk-ant": "sk-ant-" + _mixed(40), "sk-lf": "sk-lf-" + UUID,
    "xoxp": "xoxp-123456789012-" + _mixed(30), "xapp": "xapp-1-A0123-123456789012-" + _hex(64),
    "GOCSPX": "GOCSPX-" + _mixed(28), "sk_test": "sk_" + "test_" + _mixed(24),
    "rk_live": "rk_live_" + _mixed(24),
    "bot": "https://api.telegram.org/bot123456789:" + _mixed(35) + "/sendMessage",
    "triggers": "hooks.slack.com/triggers/T012/123/" + _hex(32), "dor_v1_": "dor_v1_" + _hex(64),
    "open PEM": "-----BEGIN OPENSSH PRIVATE KEY-----\n" + _mixed(64) + "\n" + _mixed(64),
    "PEM in one line": "-----BEGIN PRIVATE KEY-----\\n" + _mixed(64) + "\\n-----END PRIVATE KEY-----",
    "PGP": "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n" + _mixed(64),
    "JWT without signature": "eyJhbGciOiJub25lIn0xxx." + _mixed(40) + ".",
}  # fmt: skip

# What training programs record. None of it may be taken for a secret.
INNOCENT = [
    _hex(40), SHA1, SHA256, _hex(32), hashlib.sha512(b"x").hexdigest(), "sha256:" + SHA256, "9f86d08",
    _hex(8), UUID, "urn:uuid:" + UUID, "{" + UUID + "}", "01a222f5-2c1c-70a7-ae44-2ad86f6ecfea-17",
    "01a222f52c1d75719acc7156e65dcfde", "sk-learn-model",
    "sk-learn-random-forest-classifier-v2-production-2024", "sk_learn_pipeline_live_test",
    "sk-ant-colony-optimization-v2-run-2024-01-01-seed-42", "hf_model",
    "hf_internal_testing_tiny_random_bert", "hf-internal-testing/tiny-random-BertForSequenceClassification",
    "npm_install", "npm_config_cache_directory_x", "ghp_pages", "github_pattern_matching", "glpat", "dapi",
    "dapivirine-trial", "xox-experiment", "AKIAZ", "ASIAN_FACES_DATASET_V2", "pypi-server", "pul-request-42",
    "AIzawa", "eyJ", "eyJhbGci", "SGD", "SG.sgd", "SGD.momentum.0.9.nesterov.true", "hvs",
    "bert-base-uncased", "meta-llama/Llama-3.1-70B-Instruct", "mistralai/Mixtral-8x7B-Instruct-v0.1",
    "openai/clip-vit-large-patch14-336", "facebook/wav2vec2-large-960h-lv60-self",
    "checkpoints/model-epoch-10-step-2000.ckpt",
    "lightning_logs/version_3/checkpoints/epoch=9-step=2000.ckpt",
    "/home/user/projects/experiment_2024/data/train/images/000000123456.jpg", "C:\\Users\\bob\\model.pt",
    "s3://bucket/path/to/dataset/part-00000-of-00042.parquet", "gs://bucket/train", "file:///data/x.csv",
    "https://example.org/models/resnet50?version=3&max_tokens=5",
    "https://huggingface.co/datasets/squad/resolve/main",
    "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4).decode(),
    base64.b64encode(bytes(range(256))).decode(), base64.b64encode(b"\x89PNG\r\n" + bytes(200)).decode(),
    "2024-01-01T12:30:45.123456+00:00", "12:30:45", "1.2.3.4:8786", "tcp://10.0.0.1:8786", "cuda:0",
    "node-1:29500", "lr=0.001, batch_size=32, optimizer=adamw", "epoch: 3, loss: 0.25", "key: value",
    "token: 523", "max_tokens=4096", "pad_token='<pad>', eos_token='</s>'", "tokenizer: bert", "keys: a, b",
    "primary_key=id", "sort_key: name", "Basic understanding of transformers", "basic ResNet50",
    "bearer of news", "a secretary", "The keyboard: black", "inc-0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    "('add-0a1b2c3d4e5f60718293a4b5c6d7e8f9', 3, 4)", "key-1b2c3d4e5f60718293a4b5c6d7e8f9", "torch.float32",
    "aten::conv2d", "nn.Linear(in_features=10, out_features=2, bias=True)", "SELECT id FROM t WHERE a = 1",
    "{'a': 1, 'b': [1, 2]}", '{"lr": 0.1, "name": "x"}', "Question: what is it?\nAnswer: a token of thanks",
    "MEN.WOMEN.CHILDREN_2024_dataset_with_a_long_name", "Nordic.models.for_language_modelling_of_danish_v2",
    "123456789:evaluation", "arXiv:2301.12345", "doi:10.1000/182", "sig=0.5", "signature: (x, y)",
    "--lr 0.1 --epochs 3", "--token-type ids", "python train.py --config configs/base.yaml --key-dim 64",
    "user@example.org", "a@b.c", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI bob", "sha256~", "ops_eyJ", "LTAI", "wandb: run run_2x3y4z",
    "wandb_run_id=2x3y4z5a", "HRKU-AA", "age1", "tskey-",
]  # fmt: skip

HOSTILE = [
    "eyJ", "eyJ-", "-eyJaaaaaaaaaa", "eyJaaaaaaaaaa.", "sk-ant-", "sk-proj-a", "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ", "Bearer ", "Basic a", "basic  ", "a.", "Ab1-", "AKIA", "AKIAIOSFODNN7EXAMPLE ",
    "password=", "password='", "password='\\'", "password=[", "password=(a", "--token ", "token: a, ",
    "('password', ", "a=", "a:", "a-", "a_", "'", '\\"', "://", "a://b@", "http://?&a=", "?password=",
    "0a1b2c3d4e5f60718293a4b5c6d7e8f9-us", "M.", "123456789:", "=", ",", " ", "password=a,b=c",
    "x" * 64 + "=", "hooks.slack.com/services/", "sig=a", "\\", "cookie: ", "password => {", "key ",
    "api key: ", "<password>", "</password>", "<password", "</", "password\n  input_value=", "  | ", "\n",
    ", input_type=a]", "ab:/", "ab:/a:b@",
]  # fmt: skip
