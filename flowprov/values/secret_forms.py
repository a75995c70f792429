"""Forms of secrets: how the tokens of services look, whatever the name under which they stand.

Flows in: text. Flows out: where a token stands in it. The formats are facts that gitleaks (its
`config/gitleaks.toml`) and detect-secrets (its plugins) publish; the patterns are written for this package.
docs/reference/secrets.md lists them, and a test holds it equal to this table.

Each pattern is linear in the length of the text: what is unbounded in it is one class of characters, with
nothing required behind it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple


class SecretForm(NamedTuple):
    """The form of the secrets of one kind.

    Attributes
    ----------
    name
        Its name; ``privacy.allow`` switches it off.
    kind, shape
        What it is and how it looks, for docs/reference/secrets.md.
    pattern
        A regular expression. It begins with a character, not with a group, which is faster.
    """

    name: str
    kind: str
    shape: str
    pattern: str


_PEM = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

PHRASES: tuple[SecretForm, ...] = (
    SecretForm("private-key", "private key", "`-----BEGIN … PRIVATE KEY-----` to its end",
        rf"-----BEGIN {_PEM}(?s:.*?)(?:-----END {_PEM}|\Z)"),
    SecretForm("bearer", "HTTP Bearer credentials", "`Bearer …`, with a digit or of 20 characters",
        r"[Bb]earer\s{1,3}(?:(?=[A-Za-z._~+/-]{0,99}[0-9=])[\w.~+/=-]{8,}|[\w.~+/=-]{20,})"),
    SecretForm("basic", "HTTP Basic credentials", "`Basic …`, if it decodes to `user:password`",
        r"[Bb]asic\s{1,3}(?P<basic>[A-Za-z0-9+/]{4,2000}={0,2})"),
)  # fmt: skip
"""Secrets with white space in them."""

# Where a token may have hyphens, only digits and capitals tell it from a name.
_MIXED = r"(?=[\w-]{0,99}?[0-9])(?=[\w-]{0,99}?[A-Z])"

TOKENS: tuple[SecretForm, ...] = (
    SecretForm("jwt", "JSON Web Token", "`eyJ….….…`",
        r"eyJ[A-Za-z0-9]{10,}\.[\w-]{10,}(?:\.[\w-]*){0,3}"),
    SecretForm("aws", "access key of AWS", "`AKIA…`, `ASIA…`, `ABIA…`, `ACCA…`, and its secret beside it",
        r"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}(?![A-Za-z0-9])"),
    SecretForm("google-api", "API key of Google", "`AIza…`",
        r"AIza[\w-]{35}"),
    SecretForm("google-oauth", "OAuth token or client secret of Google", "`ya29.…`, `GOCSPX-…`",
        r"ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"),
    SecretForm("azure-client", "client secret of Azure AD",
        "3 characters, a digit, `Q~`, 31 to 34 characters",
        r"[\w.][\w.]{2}[0-9]Q~[\w.~-]{31,34}"),
    SecretForm("azure-signature", "shared access signature of Azure", "`sig=…`",
        r"sig=[A-Za-z0-9%+/=]{20,}"),
    SecretForm("alibaba", "access key of Alibaba", "`LTAI…`",
        r"LTAI[A-Za-z0-9]{16,20}(?![A-Za-z0-9])"),
    SecretForm("digitalocean", "token of DigitalOcean", "`dop_v1_…`, `doo_v1_…`, `dor_v1_…`",
        r"do[opr]_v1_[0-9a-f]{40,}"),
    SecretForm("hugging-face", "token of Hugging Face", "`hf_…`, `api_org_…`",
        r"hf_[A-Za-z0-9]{24,}|api_org_[A-Za-z0-9]{24,}"),
    SecretForm("openai", "API key of OpenAI, OpenRouter, Langfuse and others",
        "`sk-…`, `sk-proj-…`, `sk-svcacct-…`, `sk-admin-…`, `sk-or-v1-…`, `sk-lf-…`",
        rf"sk-(?:(?:proj|svcacct|admin|None)-{_MIXED}[\w-]{{20,}}|or-v1-[0-9a-f]{{32,}}"
        rf"|lf-[0-9a-f-]{{36}}|[A-Za-z0-9]{{32,}})"),
    SecretForm("anthropic", "API key of Anthropic", "`sk-ant-…`",
        rf"sk-ant-(?:[a-z]{{3,5}}[0-9]{{2}}-[\w-]{{10,}}|{_MIXED}[\w-]{{20,}})"),
    SecretForm("groq", "API key of Groq", "`gsk_…`",
        r"gsk_[A-Za-z0-9]{40,}"),
    SecretForm("xai", "API key of xAI", "`xai-…`",
        r"xai-[A-Za-z0-9]{40,}"),
    SecretForm("perplexity", "API key of Perplexity", "`pplx-…`",
        r"pplx-[A-Za-z0-9]{40,}"),
    SecretForm("replicate", "token of Replicate", "`r8_…`",
        r"r8_[A-Za-z0-9]{30,}"),
    SecretForm("nvidia", "API key of NVIDIA", "`nvapi-…`",
        r"nvapi-[\w-]{40,}"),
    SecretForm("langsmith", "API key of LangSmith", "`lsv2_pt_…`, `lsv2_sk_…`",
        r"lsv2_(?:pt|sk)_[0-9a-f]{32}_[0-9a-f]{10}"),
    SecretForm("wandb", "API key of W&B", "`wandb_v1_…`; 40 hex digits only under a name with `wandb`",
        r"wandb_v1_[\w-]{40,}"),
    SecretForm("pinecone", "API key of Pinecone", "`pcsk_…`",
        r"pcsk_\w{30,}"),
    SecretForm("jina", "API key of Jina", "`jina_…`",
        r"jina_[0-9a-f]{32}\w*"),
    SecretForm("github", "token of GitHub", "`ghp_…`, `gho_…`, `ghu_…`, `ghs_…`, `ghr_…`",
        r"gh[pousr]_[A-Za-z0-9]{20,}"),
    SecretForm("github-fine", "fine-grained token of GitHub", "`github_pat_…`",
        r"github_pat_\w{20,}"),
    SecretForm("gitlab", "token of GitLab", "`glpat-…`, `gldt-…`, `glrt-…`, `glptt-…` and the like",
        r"gl(?:pat|dt|rt|ptt|cbt|soat|ft|imt|agent|oas|ffct)-[\w.-]{20,}"),
    SecretForm("npm", "token of npm", "`npm_…`",
        r"npm_[A-Za-z0-9]{30,}"),
    SecretForm("pypi", "token of PyPI", "`pypi-AgE…`",
        r"pypi-AgE[\w-]{20,}"),
    SecretForm("rubygems", "token of RubyGems", "`rubygems_…`",
        r"rubygems_[0-9a-f]{40,}"),
    SecretForm("docker", "token of Docker Hub", "`dckr_pat_…`",
        r"dckr_pat_[\w-]{20,}"),
    SecretForm("artifactory", "API key of Artifactory", "`AKCp…`",
        r"AKCp[A-Za-z0-9]{40,}"),
    SecretForm("vault", "token of HashiCorp Vault", "`hvs.…`, `hvb.…`, `hvr.…`",
        r"hv[sbr]\.[\w-]{20,}"),
    SecretForm("terraform", "token of Terraform Cloud", "`….atlasv1.…`",
        r"[A-Za-z0-9][A-Za-z0-9]{13}\.atlasv1\.[\w-]{40,}"),
    SecretForm("databricks", "token of Databricks", "`dapi…`",
        r"dapi[0-9a-f]{32}(?:-[0-9])?"),
    SecretForm("slack", "token of Slack",
        "`xoxb-…`, `xoxp-…`, `xoxa-…`, `xoxr-…`, `xoxs-…`, `xoxe-…`, `xapp-…`",
        r"xox[abeoprs](?:\.xox[bp])?-[A-Za-z0-9-]{10,}|xapp-[0-9]-[A-Za-z0-9-]{10,}"),
    SecretForm("slack-address", "webhook of Slack", "`hooks.slack.com/services/…`",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/[\w+/-]{8,}"),
    SecretForm("discord", "token of a bot of Discord", "`M….….…`, `N….….…`, `O….….…`",
        r"[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}"),
    SecretForm("discord-address", "webhook of Discord", "`discord.com/api/webhooks/…`",
        r"discord(?:app)?\.com/api/(?:v[0-9]{1,2}/)?webhooks/[\w/-]{8,}"),
    SecretForm("telegram", "token of a bot of Telegram", "`123456789:…`, `bot123456789:…`",
        r"bot[0-9]{8,10}:[\w-]{35}(?![\w-])|[0-9][0-9]{7,9}:[\w-]{35}(?![\w-])"),
    SecretForm("teams-address", "webhook of Microsoft Teams", "`….webhook.office.com/webhookb2/…`",
        r"webhook\.office\.com/webhookb2/[\w@/-]{8,}"),
    SecretForm("stripe", "key of Stripe", "`sk_live_…`, `sk_test_…`, `rk_live_…`, `whsec_…`",
        r"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/]{20,}"),
    SecretForm("square", "token of Square", "`sq0atp-…`, `sq0csp-…`",
        r"sq0(?:atp|csp)-[\w-]{20,}"),
    SecretForm("shopify", "token of Shopify", "`shpat_…`, `shpca_…`, `shppa_…`, `shpss_…`",
        r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    SecretForm("sendgrid", "key of SendGrid", "`SG.….…`",
        r"SG\.[\w-]{16,32}\.[\w-]{16,64}"),
    SecretForm("sendinblue", "key of Brevo", "`xkeysib-…`",
        r"xkeysib-[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    SecretForm("mailchimp", "key of Mailchimp", "32 hex digits and `-us1`",
        r"[0-9a-f][0-9a-f]{31}-us[0-9]{1,2}(?![A-Za-z0-9])"),
    SecretForm("twilio", "API key of Twilio", "`SK` and 32 hex digits",
        r"SK[0-9a-f]{32}(?![A-Za-z0-9])"),
    SecretForm("grafana", "token of Grafana", "`glsa_…`, `glc_…`",
        r"glsa_[A-Za-z0-9]{32}_[0-9a-f]{8}|glc_[A-Za-z0-9+/]{32,}"),
    SecretForm("sentry", "token of Sentry", "`sntrys_…`, `sntryu_…`",
        r"sntry[su]_[A-Za-z0-9+/=_]{40,}"),
    SecretForm("new-relic", "key of New Relic", "`NRAK-…`, `NRII-…`, `NRJS-…`",
        r"NR(?:AK|II|JS)-[A-Za-z0-9-]{19,}"),
    SecretForm("dynatrace", "token of Dynatrace", "`dt0c01.….…`",
        r"dt0c01\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{32,}"),
    SecretForm("pulumi", "token of Pulumi", "`pul-…`",
        r"pul-[0-9a-f]{40}"),
    SecretForm("doppler", "token of Doppler", "`dp.pt.…`, `dp.st.…` and the like",
        r"dp\.(?:pt|st|ct|sa|scim|audit)\.[\w.-]{40,}"),
    SecretForm("postman", "key of Postman", "`PMAK-…`",
        r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}"),
    SecretForm("planetscale", "token or password of PlanetScale",
        "`pscale_tkn_…`, `pscale_oauth_…`, `pscale_pw_…`",
        r"pscale_(?:tkn|oauth|pw)_[\w=.-]{20,}"),
    SecretForm("prefect", "API key of Prefect", "`pnu_…`, `pnb_…`",
        r"pn[ub]_[A-Za-z0-9]{30,}"),
    SecretForm("supabase", "token of Supabase", "`sbp_…`",
        r"sbp_[0-9a-f]{40}"),
    SecretForm("tailscale", "key of Tailscale", "`tskey-…`",
        r"tskey-[a-z]{3,10}-[\w-]{15,}"),
    SecretForm("linear", "API key of Linear", "`lin_api_…`",
        r"lin_api_[A-Za-z0-9]{40}"),
    SecretForm("notion", "token of Notion", "`ntn_…`",
        r"ntn_[A-Za-z0-9]{40,}"),
    SecretForm("atlassian", "token of Atlassian", "`ATATT3…`",
        r"ATATT3[\w=-]{40,}"),
    SecretForm("heroku", "key of Heroku", "`HRKU-AA…`",
        r"HRKU-AA[\w-]{40,}"),
    SecretForm("fly", "token of Fly.io", "`fo1_…`, `fm2_…`",
        r"fo1_[\w-]{43}|fm[12][ar]?_[A-Za-z0-9+/]{60,}"),
    SecretForm("openshift", "token of OpenShift", "`sha256~…`",
        r"sha256~[\w-]{43}"),
    SecretForm("age", "private key of age", "`AGE-SECRET-KEY-1…`",
        r"AGE-SECRET-KEY-1[A-Z0-9]{40,}"),
    SecretForm("1password", "token of 1Password", "`ops_eyJ…`",
        r"ops_eyJ[A-Za-z0-9+/]{60,}"),
)  # fmt: skip
"""Secrets that are one word, of 20 characters or more."""

FORMS = PHRASES + TOKENS

MIN_LENGTH = 20
# All tokens have such a part, or they have a colon or "=" in them; few words of other texts are as long.
_LONG_PART = re.compile(r"[A-Za-z0-9]{12}")
_RUN = re.compile(r"[A-Za-z0-9_.:~/=+%@-]{20,}")  # a stretch that may hold tokens
_AWS_ID = re.compile(r"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}")
_AWS_SECRET = re.compile(
    r"(?<![\w+/=-])(?=[^a-z]{0,39}[a-z])(?=[^A-Z]{0,39}[A-Z])(?=[^0-9]{0,39}[0-9])[A-Za-z0-9+/]{40}(?![\w+/=-])"
)


class Forms:
    """The forms of secrets that are looked for.

    Parameters
    ----------
    without
        Names of forms that are left out.
    """

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self._phrases = _compile("", PHRASES, without)
        # In a text with a blank in front of it, each token stands behind a character that is none of its own.
        self._tokens = _compile("[^A-Za-z0-9]", TOKENS, without)
        self._finds_aws = "aws" not in without

    def may_occur_in(self, text: str) -> bool:
        """Whether there may be a secret of these forms in a text that has no colon and no "="."""
        return _LONG_PART.search(text) is not None or _may_hold_phrase(text)

    def may_be(self, word: str) -> bool:
        """Whether a text of one word, without a colon and "=", holds a secret; or may be one of AWS."""
        if _LONG_PART.search(word) is None:
            return False
        return self._tokens.search(" " + word) is not None or is_secret_of_aws(word)

    def conceal(self, text: str, mark: str) -> str:
        """Return a text with a mark in the place of each secret of these forms."""
        pieces: list[str] = []
        copied_to = 0
        for start, end in sorted(self._spans(text)):
            if end > copied_to:
                pieces += (text[copied_to : max(start, copied_to)], mark)
                copied_to = end
        if not pieces:
            return text
        pieces.append(text[copied_to:])
        concealed = "".join(pieces)
        return _AWS_SECRET.sub(mark, concealed) if self._finds_aws and _AWS_ID.search(text) else concealed

    def _spans(self, text: str) -> Iterator[tuple[int, int]]:
        for match in self._phrases.finditer(text) if _may_hold_phrase(text) else ():
            if match.lastgroup != "basic" or _is_basic(match["basic"]):
                yield match.span()
        yield from self._tokens_in(text)

    def _tokens_in(self, text: str) -> Iterator[tuple[int, int]]:
        padded = " " + text
        for run in _RUN.finditer(padded):
            position = run.start() - 1
            while (token := self._tokens.search(padded, position, run.end())) is not None:
                position = token.end()
                yield token.start(), position - 1


def _may_hold_phrase(text: str) -> bool:
    return "earer" in text or "asic" in text or "-----BEGIN" in text


@lru_cache(maxsize=16)
def _compile(before: str, forms: tuple[SecretForm, ...], without: frozenset[str]) -> re.Pattern[str]:
    alternatives = "|".join(form.pattern for form in forms if form.name not in without)
    return re.compile(f"{before}(?:{alternatives or '(?!)'})", re.ASCII)


def _is_basic(encoded: str) -> bool:
    """Whether a word behind "Basic" is a user and a password in base64, not one of a sentence."""
    try:
        decoded = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        return False
    return b":" in decoded and decoded.decode("utf-8", "replace").isprintable()


def has_id_of_aws(text: str) -> bool:
    """Whether there is the id of an access key of AWS in a text: its secret may stand beside it."""
    return _AWS_ID.search(text) is not None


def is_secret_of_aws(text: str) -> bool:
    """Whether a text looks like the secret that belongs to an access key of AWS."""
    return len(text) == 40 and not text.islower() and _AWS_SECRET.fullmatch(text) is not None
