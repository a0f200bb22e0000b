"""Policies and URLs over a real etcd: two that change at once, and owners that go."""

import asyncio
import json

import pytest

from lambent_chassis.etcd import Etcd
from lambent_frontend.function_urls import FunctionUrls
from lambent_frontend.policies import Policies
from lambent_proto import keys
from lambent_proto.errors import NotReady, RevisionMismatch, StatementExists, UnknownFunction, UrlExists
from lambent_proto.v1 import policies_pb2, urls_pb2
from tests.unit.frontend.followed import F, definition, followed

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


def adding(sid: str, revision_id: str = "") -> policies_pb2.AddPermissionRequest:
    return policies_pb2.AddPermissionRequest(
        function_name=F,
        statement_id=sid,
        action="lambda:InvokeFunction",
        principal="*",
        revision_id=revision_id,
    )


def address(url_id: str) -> str:
    return f"http://{url_id}/"


async def test_two_that_add_at_once_both_add(etcd: Etcd) -> None:
    """Neither frontend's change takes the place of the other's."""
    async with followed(etcd) as it, followed(etcd) as other:
        await it.registry.create(definition())
        await other.until_told(1)
        both = [Policies(here.catalogue, here.registry) for here in (it, other)]
        await asyncio.gather(*(both[n % 2].add_permission(adding(f"s{n}")) for n in range(4)))
        found = await both[0].get_policy(policies_pb2.GetPolicyRequest(function_name=F))
        assert {each["Sid"] for each in json.loads(found.policy)["Statement"]} == {"s0", "s1", "s2", "s3"}


async def test_of_two_with_one_id_or_one_revision_one_adds(etcd: Etcd) -> None:
    async with followed(etcd) as it:
        await it.registry.create(definition())
        policies = Policies(it.catalogue, it.registry)
        done = await asyncio.gather(
            *(policies.add_permission(adding("s")) for _ in range(2)), return_exceptions=True
        )
        assert [type(each) for each in done].count(StatementExists) == 1
        revision = (await policies.get_policy(policies_pb2.GetPolicyRequest(function_name=F))).revision_id
        requests = [adding(sid, revision_id=revision) for sid in ("t", "u")]
        done = await asyncio.gather(*map(policies.add_permission, requests), return_exceptions=True)
        assert [type(each) for each in done].count(RevisionMismatch) == 1


async def test_of_two_that_make_a_url_one_makes_it(etcd: Etcd) -> None:
    """Both frontends find it by its id, and no more once it is deleted."""
    async with followed(etcd) as it, followed(etcd) as other:
        await it.registry.create(definition())
        await other.until_told(1)
        both = [FunctionUrls(here.catalogue, here.registry, address) for here in (it, other)]
        request = urls_pb2.CreateFunctionUrlRequest(function_name=F, auth_type="NONE")
        done = await asyncio.gather(*(urls.create(request) for urls in both), return_exceptions=True)
        assert [type(each) for each in done].count(UrlExists) == 1
        [made] = [each for each in done if isinstance(each, urls_pb2.FunctionUrl)]
        url_id = made.url.removeprefix("http://").removesuffix("/")
        stored = await etcd.get(keys.url(F, ""))
        assert stored is not None
        for here in (it, other):
            await here.catalogue.until_seen(stored.mod_revision)
            assert here.catalogue.of_url(url_id) == (F, "")
        await both[0].delete(urls_pb2.DeleteFunctionUrlRequest(function_name=F))
        assert it.catalogue.of_url(url_id) is None


async def test_what_goes_with_its_function(etcd: Etcd) -> None:
    """Nothing is left that one of the same name would have; nor is anything put beside one that has gone."""
    async with followed(etcd) as it:
        await it.registry.create(definition())
        urls, policies = FunctionUrls(it.catalogue, it.registry, address), Policies(it.catalogue, it.registry)
        made = await urls.create(urls_pb2.CreateFunctionUrlRequest(function_name=F, auth_type="NONE"))
        await policies.add_permission(adding("s"))
        beside = await it.registry.beside(F, "", keys.policy(F, ""))
        stored = await it.registry.read(F)
        assert beside is not None
        assert stored is not None
        assert await it.registry.delete(stored)
        assert it.catalogue.of_url(made.url.removeprefix("http://").removesuffix("/")) is None
        assert (await etcd.get_prefix(keys.FUNCTIONS)).items == []
        assert not await it.registry.put_beside(beside, b"late")
        await it.registry.create(definition())
        absent = await it.registry.beside(F, "", keys.policy(F, ""))
        assert absent is not None
        stored = await it.registry.read(F)
        assert stored is not None
        await it.registry.delete(stored)
        await it.registry.create(definition())
        assert not await it.registry.put_beside(absent, b"of the one before")


@pytest.mark.parametrize("name", ["nobody", "f/url", ""])
async def test_nothing_is_beside_what_is_no_function(etcd: Etcd, name: str) -> None:
    async with followed(etcd) as it:
        urls = FunctionUrls(it.catalogue, it.registry, address)
        with pytest.raises((UnknownFunction, NotReady)):
            await urls.create(urls_pb2.CreateFunctionUrlRequest(function_name=name, auth_type="NONE"))
